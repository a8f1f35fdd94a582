// kvmerger bench: tokens per second and memory at depths, in the manner of llama-bench (src/bench).
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "bench/row.h"
#include "bench/run.h"
#include "bench/setting.h"
#include "cli/commands.h"
#include "cli/load.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/machine.h"
#include "engine/methods.h"

namespace kvmerger::cli {
namespace {

constexpr int kMostTokens = 1'000'000'000;  // positions are int32

constexpr const char* kFooter =
    "ppN @ dD reads N tokens, tgN @ dD generates N, behind D tokens in the cache: the mean of the repetitions and\n"
    "their deviation. With nothing before it, or with --kv-when stream, a prompt is compacted as a document is,\n"
    "in the time that counts; else it is read like a question. rows/head and KV MiB are those at the end of the\n"
    "test; peak MiB is the most that the cache held, RSS MiB that the process held (without the copies that\n"
    "repetitions work on). fill t/s: reading the D tokens, without the compaction that `compact s` has.\n"
    "MiB/token: what decoding reads of the cache; GB/s: of cache and weights together, and its share of what\n"
    "plain reading of memory gets on this machine.";

template <typename Field>
CLI::Option* several(CLI::App& app, const char* names, Field& field, const char* what, const char* help) {
  return app.add_option(names, field, help)->take_all()->allow_extra_args(false)->type_name(what);
}

// Specs hold commas of their own, so CLI11 cannot split them.
std::vector<std::string> split(const std::vector<std::string>& given) {
  std::vector<std::string> specs;
  for (const std::string& list : given) {
    const std::vector<std::string> some = engine::split_methods(list);
    specs.insert(specs.end(), some.begin(), some.end());
  }
  return specs;
}

std::vector<kernels::RowType> row_types(const std::vector<std::string>& names) {
  std::vector<kernels::RowType> types;
  for (const std::string& name : names) types.push_back(row_type(name));
  return types;
}

bench::Format format_of(const std::string& name) {
  return static_cast<bench::Format>(std::ranges::find(bench::format_names(), name) - bench::format_names().begin());
}

bench::Options bench_options(const BenchOptions& options) {
  const bench::Options what{
      .prompts = options.prompts,
      .generations = options.generations,
      .depths = options.depths,
      .settings = bench::all_settings({.threads = options.threads,
                                       .batches = options.batches,
                                       .key_types = row_types(options.key_types),
                                       .value_types = row_types(options.value_types)}),
      .methods = bench::all_methods({.methods = split(options.methods),
                                     .budgets = options.budgets,
                                     .heads = split(options.heads),
                                     .fits = split(options.fits),
                                     .whens = options.whens}),
      .repetitions = options.repetitions,
      .profile = options.profile,
  };
  bench::check(what);
  return what;
}

// Rows on stdout, each as soon as it is there. What was begun is ended also when an error comes between.
class Output {
 public:
  explicit Output(bench::Format format) : format_(format) {}
  Output(const Output&) = delete;
  ~Output() {
    if (begun_) out_.write(bench::end_text(format_));
  }

  void row(const bench::Row& row) {
    if (!begun_) out_.write(bench::head_text(format_));
    out_.write(bench::row_text(format_, row, !begun_));
    begun_ = true;
    if (out_.closed()) throw Error("stdout was closed; nobody reads the rows");
  }

 private:
  const bench::Format format_;
  Answer out_;
  bool begun_ = false;
};

// The line on the terminal, wiped before a row is written.
bench::Listener listener(std::unique_ptr<Progress>& progress, Output& output) {
  return {[&](const std::string& what) {
            progress.reset();
            progress = std::make_unique<Progress>(what);
            progress->say(what);
            return progress->hooks();
          },
          [&](const bench::Row& row) {
            progress.reset();
            output.row(row);
          }};
}

void declare_tests(CLI::App& app, BenchOptions& options) {
  const auto numbers = [&](const char* names, std::vector<uint32_t>& field, int least, int most, const char* help) {
    several(app, names, field, "N,...", help)
        ->delimiter(',')
        ->capture_default_str()
        ->check(CLI::Range(least, most).description(""));
  };
  several(app, "-m,--model", options.models, "FILE,...", "GGUF files; without it the model of tools/fetch_model")
      ->delimiter(',');
  numbers("-p,--n-prompt", options.prompts, 0, kMostTokens, "Tokens to read; 0: no such test");
  numbers("-n,--n-gen", options.generations, 0, kMostTokens, "Tokens to generate; 0: no such test");
  numbers("-d,--n-depth", options.depths, 0, kMostTokens, "Tokens that are in the cache before; they are really read");
  numbers("-t,--threads", options.threads, 0, 512, "Threads; 0: one per core");
  numbers("-b,--batch-size", options.batches, 1, 65536, "Tokens read at once");
  app.add_option("-r,--repetitions", options.repetitions, "Of every test; reading up to the depth is done once")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000).description(""))
      ->type_name("N");
}

void declare_cache(CLI::App& app, BenchOptions& options) {
  const auto types = [&](const char* name, std::vector<std::string>& field, const char* help) {
    const std::vector<std::string> known(std::begin(kernels::kRowTypeNames), std::end(kernels::kRowTypeNames));
    several(app, name, field, "TYPE,...", help)
        ->delimiter(',')
        ->capture_default_str()
        ->check(CLI::IsMember(known).description(""));
  };
  types("--cache-type-k", options.key_types, "Numbers of keys, as in run (also -ctk)");
  types("--cache-type-v", options.value_types, "Numbers of values, as in run (also -ctv)");
  const auto specs = [&](const char* names, std::vector<std::string>& field, const char* help) {
    return several(app, names, field, "SPEC,...", help);
  };
  specs("--kv-policy,--method", options.methods, "Methods, or policy+heads+fit, as --kv-policy of run");
  several(app, "--kv-budget", options.budgets, "SIZE,...", "Budgets of each method; the full cache (none) has none")
      ->delimiter(',');
  specs("--kv-heads", options.heads, "How heads share the budget, in place of what the methods say");
  specs("--kv-fit", options.fits, "Correction of what survives, in place of what the methods say");
  several(app, "--kv-when", options.whens, "NAME[+NAME],...", "When to compact, as in run: prefill, stream, decode")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--kv-profile", options.profile, "Profile of the model; without it that of the user's cache")
      ->type_name("FILE");
}

}  // namespace

void declare(CLI::App& app, BenchOptions& options) {
  declare_tests(app, options);
  declare_cache(app, options);
  app.add_option("-o,--output", options.format, "md, csv, json or jsonl")
      ->capture_default_str()
      ->check(CLI::IsMember(bench::format_names()).description(""))
      ->type_name("FORMAT");
  app.add_flag("-q,--quiet", options.quiet, "Only warnings and errors on stderr");
  app.footer(kFooter);
}

int bench(const BenchOptions& options) {
  const bench::Options what = bench_options(options);
  const std::vector<std::string> models = options.models.empty() ? std::vector<std::string>{""} : options.models;
  log_info(cat("kvmerger " KVMERGER_VERSION ", ", engine::simd_target()));
  bench::Bandwidths bandwidths;
  Output output(format_of(options.format));
  std::unique_ptr<Progress> progress;
  for (const std::string& model : models) {
    const Loaded loaded = load_model(model, model::WeightLayout::kRepacked);
    bench::run(what, {loaded.model, *loaded.tokenizer}, bandwidths, listener(progress, output));
  }
  return 0;
}

}  // namespace kvmerger::cli
