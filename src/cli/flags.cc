#include "cli/flags.h"

#include <CLI/CLI.hpp>
#include <type_traits>
#include <utility>

#include "cli/texts.h"
#include "core/error.h"
#include "engine/methods.h"

namespace kvmerger::cli {
namespace {

constexpr std::pair<const char*, const char*> kLongForms[] = {
    {"-ctk", "--cache-type-k"}, {"-ctv", "--cache-type-v"}, {"-sys", "--system-prompt"},
    {"-sp", "--special"},       {"-no-cnv", "--raw"},
};

const std::vector<std::string>& types() {
  static const std::vector<std::string> names{std::begin(kernels::kRowTypeNames), std::end(kernels::kRowTypeNames)};
  return names;
}

// One option, the last one given counts. `what` stands for its value in --help, which also shows a number's default.
template <typename Field>
CLI::Option* add(CLI::App& app, const char* group, const std::string& names, Field& field, const char* what,
                 const std::string& help) {
  CLI::Option* option = app.add_option(names, field, help)->group(group)->type_name(what)->take_last();
  if constexpr (!std::is_same_v<Field, std::string>) option->capture_default_str();
  return option;
}

CLI::Validator between(int least, int most) { return CLI::Range(least, most).description(""); }
CLI::Validator one_of(const std::vector<std::string>& names) { return CLI::IsMember(names).description(""); }

}  // namespace

void declare(CLI::App& app, ModelFlags& flags) {
  const char* group = "Model";
  add(app, group, "-m,--model", flags.model, "FILE", "GGUF file; without it the model of tools/fetch_model");
  add(app, group, "-c,--ctx-size", flags.context, "N", "Tokens the context holds; 0: as the model was trained for")
      ->check(between(0, INT32_MAX));
  add(app, group, "-t,--threads", flags.threads, "N", "Threads; 0: one per core")->check(between(0, 512));
  add(app, group, "-b,--batch-size", flags.batch, "N", "Tokens read at once; 0: 512, with --kv-when stream 1,024")
      ->check(between(0, 65536));
  app.add_flag("--no-repack", flags.no_repack, "Use the weights as they lie in the file: starts faster, runs slower")
      ->group(group);
}

void declare(CLI::App& app, CacheTypeFlags& flags) {
  add(app, "Cache", "--cache-type-k", flags.key, "TYPE", "Numbers of keys: f16 (default), f32 or q8_0 (also -ctk)")
      ->check(one_of(types()));
  add(app, "Cache", "--cache-type-v", flags.value, "TYPE", "Numbers of values: f16 (default), f32 or q8_0 (also -ctv)")
      ->check(one_of(types()));
}

void declare_document(CLI::App& app, TextFlags& flags) {
  const char* group = "Text";
  add(app, group, "-f,--file", flags.file, "FILE", "Document: UTF-8 text; - reads stdin");
  add(app, group, "--system-prompt", flags.system, "TEXT", "System prompt (also -sys)");
  app.add_flag("--raw,--no-conversation", flags.raw, "Do not use the model's chat template (also -no-cnv)")
      ->group(group);
  add(app, group, "--truncate", flags.truncate, "WHERE",
      "Cut a document that is too long: middle or left; else it is refused")
      ->check(one_of({"middle", "left"}));
  app.add_flag("--no-escape", flags.no_escape, "Leave \\n, \\t and the like as they are in texts on the command line")
      ->group(group);
}

void declare_question(CLI::App& app, TextFlags& flags) {
  add(app, "Text", "-p,--prompt", flags.prompt, "TEXT",
      "Question about the document; the whole prompt when there is none");
}

void declare(CLI::App& app, TextFlags& flags) {
  declare_question(app, flags);
  declare_document(app, flags);
}

void declare(CLI::App& app, GenerationFlags& flags) {
  const char* group = "Answer";
  engine::GenerateOptions& options = flags.options;
  text::SamplerParams& sampler = options.sampler;
  add(app, group, "-n,--n-predict,--predict", options.max_tokens, "N",
      "Most tokens to generate; -1: until the model ends");
  add(app, group, "-s,--seed", flags.seed, "N", "Seed of the sampler; -1: random");
  add(app, group, "--temp", sampler.temperature, "X", "Temperature; 0: always the likeliest token");
  add(app, group, "--top-k", sampler.top_k, "N", "Choose among this many tokens; 0: all");
  add(app, group, "--top-p", sampler.top_p, "X", "Choose among the likeliest with this total probability; 1: all");
  add(app, group, "--min-p", sampler.min_p, "X", "Drop tokens less likely than this share of the likeliest; 0: none");
  add(app, group, "--repeat-last-n", sampler.repeat_last_n, "N", "Tokens the penalties look back at; -1: all");
  add(app, group, "--repeat-penalty", sampler.repeat_penalty, "X", "Penalty on repetition; 1: none");
  add(app, group, "--presence-penalty", sampler.presence_penalty, "X", "Penalty on tokens that occurred; 0: none");
  add(app, group, "--frequency-penalty", sampler.frequency_penalty, "X", "Penalty per occurrence; 0: none");
  app.add_flag("--ignore-eos", sampler.ignore_eos, "Go on where the model would end")->group(group);
  app.add_option("-r,--reverse-prompt,--stop", options.stops, "Stop at this text; may be given several times")
      ->group(group)
      ->type_name("TEXT")
      ->take_all()
      ->allow_extra_args(false);
  app.add_flag("--special", options.special, "Show special tokens (also -sp)")->group(group);
}

void declare(CLI::App& app, CacheFlags& flags) {
  const char* group = "Cache";
  add(app, group, "--kv-budget", flags.budget, "SIZE",
      "Size after compaction: 35%, 2048 (rows per head), 64MiB, or auto:0.1: the least that is predicted to change the "
      "output of attention by no more than this");
  add(app, group, "--kv-policy", flags.policy, "SPEC",
      "Policy, or a whole method by name; without it none, or our default method when there is a budget");
  add(app, group, "--kv-heads", flags.heads, "SPEC",
      "How layers and heads share the budget; without it as the method says, uniform for a bare policy");
  add(app, group, "--kv-fit", flags.fit, "SPEC",
      "Correction of what survives; without it as the method says, none for a bare policy");
  add(app, group, "--kv-profile", flags.profile, "FILE",
      "Profile of the model for --kv-heads profile and duo; without it that of the user's cache");
  add(app, group, "--kv-when", flags.when, "NAME[+NAME]",
      "When to compact: prefill (default), stream, decode, or several joined by +");
  app.add_flag("--kv-question-aware", flags.question_aware,
               "Let compaction see the question; without it the compacted cache serves any question")
      ->group(group);
}

void declare(CLI::App& app, TalkFlags& flags) {
  add(app, "Talk", "--report", flags.report, "FILE", "Write all that was measured to this JSON file");
  declare_logging(app, flags);
}

void declare_logging(CLI::App& app, TalkFlags& flags) {
  app.add_flag("-v,--verbose", flags.verbose, "More on stderr")->group("Talk");
  app.add_flag("-q,--quiet,--log-disable", flags.quiet, "Only warnings and errors on stderr")->group("Talk");
}

engine::CompactionSpec compaction_spec(const CacheFlags& flags) {
  const std::string by_default = flags.budget.empty() ? "none" : "default";
  engine::CompactionSpec spec = engine::method_spec(flags.policy.empty() ? by_default : flags.policy);
  if (!flags.heads.empty()) spec.heads = flags.heads;
  if (!flags.fit.empty()) spec.fit = flags.fit;
  spec.budget = flags.budget;
  return spec;
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
  return static_cast<kernels::RowType>(std::ranges::find(types(), name) - types().begin());
}

engine::SessionOptions session_options(const ModelFlags& flags, const CacheTypeFlags& types) {
  return {.context = flags.context,
          .key_type = row_type(types.key),
          .value_type = row_type(types.value),
          .threads = flags.threads,
          .batch = flags.batch > 0 ? flags.batch : engine::SessionOptions().batch,
          .needs = {},
          .repeat_prompt = {}};
}

model::WeightLayout weight_layout(const ModelFlags& flags) {
  return flags.no_repack ? model::WeightLayout::kAsFile : model::WeightLayout::kRepacked;
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
