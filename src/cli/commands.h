// The commands: their options as values, and one function each that does the work and gives the exit code. Errors are
// thrown; app.cc turns them into messages.
#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"

namespace kvmerger::cli {

struct RunOptions {  // run, chat
  ModelFlags model;
  CacheTypeFlags types;
  TextFlags text;
  CacheFlags cache;
  GenerationFlags generation;
  TalkFlags talk;
};
int run(const RunOptions& options);
int chat(const RunOptions& options);

struct CompressOptions {
  ModelFlags model;
  CacheTypeFlags types;
  TextFlags text;
  CacheFlags cache;
  TalkFlags talk;
  std::string output;
};
int compress(const CompressOptions& options);

struct AskOptions {
  ModelFlags model;
  TextFlags text;  // only the question
  GenerationFlags generation;
  TalkFlags talk;
  std::string snapshot;
};
int ask(const AskOptions& options);

struct PerplexityOptions {
  ModelFlags model;
  CacheTypeFlags types;
  TalkFlags talk;
  std::string file;
  int32_t chunks = -1;
};
int perplexity(const PerplexityOptions& options);

struct QualityOptions {
  std::string model, output;
  std::vector<std::string> files, budgets;
  std::vector<uint32_t> contexts;
  std::string methods;
  uint32_t continuation = 128, passages = 5, questions = 24, seed = 0;
  uint32_t threads = 0, batch = 512;
  CacheTypeFlags types;
  bool table_only = false, skip_lines = false, quiet = false, quantised_products = false;
};
void declare(CLI::App& app, QualityOptions& options);
int quality(const QualityOptions& options);

struct EvalOptions {
  std::vector<std::string> command;  // as it was given, for run.json
  std::string model, output, methods, data = ".", haystack;
  std::vector<std::string> tasks, budgets;
  uint32_t context = 0, threads = 0, batch = 512, limit = 0, seed = 0;
  bool question_aware = false, traces = false, quiet = false;
  std::string program;  // score or report: a program of its own, with these arguments
  std::vector<std::string> arguments;
};
void declare(CLI::App& app, EvalOptions& options);
int eval(const EvalOptions& options);

struct BenchOptions {
  std::vector<std::string> models;
  std::vector<uint32_t> prompts{512}, generations{128}, depths{0}, threads{0}, batches{512};
  std::vector<std::string> methods, budgets, heads, fits, whens{"prefill"}, key_types{"f16"}, value_types{"f16"};
  uint32_t repetitions = 5;
  std::string profile, format = "md";
  bool quiet = false;
};
void declare(CLI::App& app, BenchOptions& options);
int bench(const BenchOptions& options);

struct CalibrateOptions {
  ModelFlags model;
  TalkFlags talk;
  std::vector<std::string> texts;
  uint32_t tokens = 0;
  std::string output;  // empty: the user's cache
};
int calibrate(const CalibrateOptions& options);

struct InspectOptions {
  std::string model;
  bool json = false, verbose = false;
};
int inspect(const InspectOptions& options);

int list(const std::string& axis);  // empty: all

}  // namespace kvmerger::cli
