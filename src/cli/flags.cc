#include "cli/flags.h"

#include <CLI/CLI.hpp>
#include <utility>

#include "cli/texts.h"
#include "core/error.h"

namespace kvmerger::cli {
namespace {

constexpr std::pair<const char*, const char*> kLongForms[] = {
    {"-ctk", "--cache-type-k"}, {"-ctv", "--cache-type-v"}, {"-sys", "--system-prompt"},
    {"-sp", "--special"},       {"-no-cnv", "--raw"},
};

const std::vector<std::string>& types() {  // in the order of kernels::RowType
  static const std::vector<std::string> names{"f32", "f16"};
  return names;
}

}  // namespace

void declare(CLI::App& app, ModelFlags& flags) {
  app.add_option("-m,--model", flags.model, "GGUF file (default: the model of tools/fetch_model)")->group("Model");
  app.add_option("-c,--ctx-size", flags.context, "Tokens the context holds; 0: what the model was trained for")
      ->check(CLI::Range(0, INT32_MAX))
      ->capture_default_str()
      ->group("Model");
  app.add_option("-t,--threads", flags.threads, "Threads; 0: one per core")
      ->check(CLI::Range(0, 512))
      ->capture_default_str()
      ->group("Model");
  app.add_option("-b,--batch-size", flags.batch, "Tokens read at once")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str()
      ->group("Model");
  app.add_flag("--no-repack{false}", flags.repack,
               "Use the weights as they lie in the file: starts faster, runs slower")
      ->group("Model");
}

void declare(CLI::App& app, CacheTypeFlags& flags) {
  app.add_option("--cache-type-k", flags.key, "Number type of keys, f16 or f32 (also -ctk)")
      ->check(CLI::IsMember(types()))
      ->capture_default_str()
      ->group("Cache");
  app.add_option("--cache-type-v", flags.value, "Number type of values, f16 or f32 (also -ctv)")
      ->check(CLI::IsMember(types()))
      ->capture_default_str()
      ->group("Cache");
}

void declare_document(CLI::App& app, TextFlags& flags) {
  app.add_option("-f,--file", flags.file, "Document: UTF-8 text; - reads stdin")->group("Text");
  app.add_option("--system-prompt", flags.system, "System prompt (also -sys)")->group("Text");
  app.add_flag("--raw,--no-conversation", flags.raw, "Do not use the model's chat template (also -no-cnv)")
      ->group("Text");
  app.add_option("--truncate", flags.truncate,
                 "Cut the document, middle or left, where it does not fit the context; it is "
                 "refused without this")
      ->check(CLI::IsMember({"middle", "left"}))
      ->group("Text");
}

void declare_question(CLI::App& app, TextFlags& flags) {
  app.add_option("-p,--prompt", flags.prompt, "Question about the document; the whole prompt when there is none")
      ->group("Text");
  app.add_flag("--no-escape", flags.no_escape, "Leave \\n, \\t and the like in -p, -sys and -r as they are")
      ->group("Text");
}

void declare(CLI::App& app, TextFlags& flags) {
  declare_document(app, flags);
  declare_question(app, flags);
}

void declare(CLI::App& app, GenerationFlags& flags) {
  engine::GenerateOptions& options = flags.options;
  const auto number = [&](const std::string& names, auto& field, const std::string& help) {
    app.add_option(names, field, help)->capture_default_str()->group("Answer");
  };
  number("-n,--n-predict,--predict", options.max_tokens, "Most tokens to generate; -1: until the model ends");
  number("-s,--seed", flags.seed, "Seed of the sampler; -1: random");
  number("--temp", options.sampler.temperature, "Temperature; 0: always the likeliest token");
  number("--top-k", options.sampler.top_k, "Choose among this many tokens; 0: all");
  number("--top-p", options.sampler.top_p, "Choose among the likeliest with this total probability; 1: all");
  number("--min-p", options.sampler.min_p, "Leave out tokens less likely than this share of the likeliest; 0: none");
  number("--repeat-last-n", options.sampler.repeat_last_n, "Tokens the penalties look back at; -1: all");
  number("--repeat-penalty", options.sampler.repeat_penalty, "Penalty on repetition; 1: none");
  number("--presence-penalty", options.sampler.presence_penalty, "Penalty on tokens that occurred; 0: none");
  number("--frequency-penalty", options.sampler.frequency_penalty, "Penalty per occurrence; 0: none");
  app.add_flag("--ignore-eos", options.sampler.ignore_eos, "Go on where the model would end")->group("Answer");
  app.add_option("-r,--reverse-prompt,--stop", options.stops, "Stop at this text; may be given several times")
      ->take_all()
      ->allow_extra_args(false)
      ->group("Answer");
  app.add_flag("--special", options.special, "Show special tokens (also -sp)")->group("Answer");
}

void declare(CLI::App& app, CacheFlags& flags) {
  const auto text = [&](const std::string& names, std::string& field, const std::string& help) {
    return app.add_option(names, field, help)->group("Cache");
  };
  text("--kv-budget", flags.budget, "Size after compaction: 35%, 2048 (rows per head) or 64MiB");
  text("--kv-policy", flags.policy, "Method, name or name:key=value,... (kvmerger list policies)")
      ->default_str("none; kvmerger with a budget");
  text("--kv-heads", flags.heads, "How layers and heads share the budget (kvmerger list budgets)")
      ->capture_default_str();
  text("--kv-fit", flags.fit, "Correction of what survives (kvmerger list fits)")->capture_default_str();
  text("--kv-when", flags.when, "When to compact (kvmerger list moments)")->capture_default_str();
}

void declare(CLI::App& app, TalkFlags& flags) {
  app.add_option("--report", flags.report, "Write everything measured to this JSON file")->group("Talk");
  app.add_flag("-v,--verbose", flags.verbose, "More on stderr")->group("Talk");
  app.add_flag("-q,--quiet,--log-disable", flags.quiet, "Only warnings and errors on stderr")->group("Talk");
}

engine::CompactionSpec compaction_spec(const CacheFlags& flags) {
  const std::string by_default = flags.budget.empty() ? "none" : "kvmerger";
  return {flags.policy.empty() ? by_default : flags.policy, flags.heads, flags.fit, flags.budget};
}

engine::GenerateOptions generate_options(const GenerationFlags& flags, bool escapes) {
  engine::GenerateOptions options = flags.options;
  if (flags.seed < -1 || flags.seed > int64_t{UINT32_MAX}) {
    throw UsageError(cat("--seed ", flags.seed, " is not -1 (random) or a whole number up to ", UINT32_MAX));
  }
  options.sampler.seed = static_cast<uint32_t>(flags.seed);  // -1 is UINT32_MAX: random
  for (std::string& stop : options.stops) {
    if (escapes) stop = unescape(stop);
    if (stop.empty()) throw UsageError("--reverse-prompt needs a text to stop at; it is empty");
  }
  return options;
}

kernels::RowType row_type(const std::string& name) {
  return name == types()[0] ? kernels::RowType::kF32 : kernels::RowType::kF16;
}

engine::SessionOptions session_options(const ModelFlags& flags, const CacheTypeFlags& types) {
  return {.context = flags.context,
          .key_type = row_type(types.key),
          .value_type = row_type(types.value),
          .threads = flags.threads,
          .batch = flags.batch,
          .needs = {}};
}

engine::Truncate truncation(const TextFlags& flags) {
  if (flags.truncate == "middle") return engine::Truncate::kMiddle;
  return flags.truncate == "left" ? engine::Truncate::kLeft : engine::Truncate::kRefuse;
}

std::vector<std::string> long_form(std::vector<std::string> arguments) {
  for (std::string& argument : arguments) {
    if (argument == "--") break;
    for (const auto& [from, to] : kLongForms) {
      if (argument == from) argument = to;
    }
  }
  return arguments;
}

}  // namespace kvmerger::cli
