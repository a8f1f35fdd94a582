// The flags that commands share, as plain values, and their declaration. Names and meanings follow llama.cpp's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/compactor.h"
#include "engine/generate.h"
#include "engine/prompt.h"
#include "engine/session.h"

namespace CLI {
class App;
}

namespace kvmerger::cli {

struct ModelFlags {
  std::string model;  // empty: the default model
  uint32_t context = 0, threads = 0;
  uint32_t batch = 0;  // 0: what goes with when the cache is compacted
  bool no_repack = false;
};

struct CacheTypeFlags {
  std::string key = "f16", value = "f16";
};

struct TextFlags {
  std::string file, prompt, system;
  bool raw = false, no_escape = false;
  std::string truncate;  // empty: refuse
};

struct GenerationFlags {
  engine::GenerateOptions options;
  int64_t seed = -1;
};

struct CacheFlags {
  std::string policy;      // empty: none, or the default method when there is a budget
  std::string heads, fit;  // empty: those of the method
  std::string budget, profile, when = "prefill";
  bool question_aware = false;
};

struct TalkFlags {
  bool verbose = false, quiet = false;
  std::string report;  // empty: none
};

void declare(CLI::App& app, ModelFlags& flags);
void declare(CLI::App& app, CacheTypeFlags& flags);
void declare(CLI::App& app, TextFlags& flags);
void declare_document(CLI::App& app, TextFlags& flags);  // the text to read
void declare_question(CLI::App& app, TextFlags& flags);  // what is asked about it
void declare(CLI::App& app, GenerationFlags& flags);
void declare(CLI::App& app, CacheFlags& flags);
void declare(CLI::App& app, TalkFlags& flags);
void declare_logging(CLI::App& app, TalkFlags& flags);  // no report

// What the flags mean.
engine::CompactionSpec compaction_spec(const CacheFlags& flags);
engine::GenerateOptions generate_options(const GenerationFlags& flags, bool escapes);  // throws UsageError
engine::SessionOptions session_options(const ModelFlags& flags, const CacheTypeFlags& types);
model::WeightLayout weight_layout(const ModelFlags& flags);
engine::Truncate truncation(const TextFlags& flags);
kernels::RowType row_type(const std::string& name);

// Flags of several letters behind one dash, as llama.cpp has them (-ctk, -sys, ...), to their long form.
std::vector<std::string> long_form(std::vector<std::string> arguments);

}  // namespace kvmerger::cli
