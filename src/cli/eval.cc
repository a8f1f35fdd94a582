// kvmerger eval: benchmarks answered with methods at budgets (src/eval), and scoring and reports, which are programs of
// evaluation/.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "bench/machine.h"
#include "cli/commands.h"
#include "cli/evaluation.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/load.h"
#include "cli/progress.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/machine.h"
#include "engine/profiles.h"
#include "eval/bench_prompt.h"
#include "eval/bench_runner.h"
#include "eval/sample_set.h"
#include "eval/trace.h"

namespace kvmerger::cli {
namespace {

namespace fs = std::filesystem;

void check(const EvalOptions& options) {
  if (options.tasks.empty()) throw UsageError("no tasks: name some with --tasks, e.g. --tasks longbench/qasper,needle");
  if (options.methods.empty()) throw UsageError("no methods: name them with --policies, e.g. --policies none,default");
  if (options.output.empty()) throw UsageError("no folder for the predictions: name one with -o");
}

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  std::array<char, 32> text;
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text.data();
}

// The same for all ways to write a path.
std::string place(const std::string& path) {
  const fs::path whole = fs::weakly_canonical(fs::absolute(path));
  return (whole.has_filename() ? whole : whole.parent_path()).string();
}

// One run of the command.
class Run {
 public:
  explicit Run(const EvalOptions& options);
  void work();

 private:
  std::vector<const eval::Candidate*> left(const eval::TaskFile& task, const std::string& id) const;
  eval::SampleSet open(const eval::TaskFile& task) const;
  void warn_of_traces(const eval::TaskFile& task, const std::string& id) const;
  size_t look_over(const eval::TaskFile& task);
  void provide_profiles();
  eval::RunFacts facts() const;
  void answer(const eval::TaskFile& task, const eval::BenchListener& listener) const;
  std::string predictions_path() const { return (fs::path(options_.output) / "predictions.jsonl").string(); }
  std::string traces_path() const { return (fs::path(options_.output) / "traces.jsonl").string(); }

  const EvalOptions& options_;
  std::vector<eval::Candidate> candidates_;
  std::vector<eval::TaskFile> tasks_;
  eval::PredictionsRead before_;
  eval::TracesRead traces_;
  Loaded loaded_;
  std::unique_ptr<eval::BenchModel> model_;
};

Run::Run(const EvalOptions& options)
    : options_(options),
      candidates_(eval::make_candidates(options.methods, options.budgets)),
      tasks_(eval::find_tasks(evaluation_folder() + "/tasks", options.tasks)) {
  std::error_code error;
  fs::create_directories(options.output, error);
  if (error) throw Error(cat("cannot make the folder ", options.output, " (-o): ", error.message()));
  check_writable(predictions_path(), "-o");
  before_ = eval::read_predictions(predictions_path());
  if (options.traces) {
    check_writable(traces_path(), "-o");
    traces_ = eval::read_traces(traces_path());
  }
  loaded_ = load_model(options.model, model::WeightLayout::kRepacked);
  model_ = std::make_unique<eval::BenchModel>(loaded_.model, *loaded_.tokenizer, engine::SessionOptions{},
                                              options.question_aware);
  model_->options.context = options.context > 0 ? options.context : loaded_.model->config().context;
  model_->options.threads = options.threads;
  model_->options.batch = options.batch;
}

std::vector<const eval::Candidate*> Run::left(const eval::TaskFile& task, const std::string& id) const {
  std::vector<const eval::Candidate*> left;
  for (const eval::Candidate& candidate : candidates_) {
    const auto key = eval::prediction_key(task.name, id, candidate.name, candidate.compactor.spec(), model_->mode());
    if (!before_.keys.contains(key)) left.push_back(&candidate);
  }
  return left;
}

eval::SampleSet Run::open(const eval::TaskFile& task) const {
  return eval::open_samples(task, {options_.data, options_.haystack, *loaded_.tokenizer, model_->options.context,
                                   options_.limit, options_.seed});
}

// Answers that are there are not made again, and no traces with them.
void Run::warn_of_traces(const eval::TaskFile& task, const std::string& id) const {
  const auto todo = left(task, id);
  const auto lost = [&](const eval::Candidate& candidate) {
    return candidate.compactor.active() && std::ranges::find(todo, &candidate) == todo.end() &&
           !traces_.keys.contains({task.name, id, candidate.name, candidate.compactor.spec().budget});
  };
  if (std::ranges::none_of(candidates_, lost)) return;
  log_warn(cat("not all traces of ", task.name,
               " can be made: its first sample is answered already; name another folder with -o"));
}

// Predictions to be made for a task; throws what could stop it, before hours have passed.
size_t Run::look_over(const eval::TaskFile& task) {
  const eval::SampleSet samples = open(task);
  if (options_.traces && samples.size() > 0) warn_of_traces(task, samples.ids[0]);
  size_t count = 0;
  for (uint32_t index = 0; index < samples.size(); ++index) {
    if (interrupted()) throw engine::Interrupted();
    const size_t predictions = left(task, samples.ids[index]).size();
    count += predictions;
    // Cut in the middle, all prompts fit when one does.
    if (predictions > 0 && (task.cut != eval::Cut::kMiddle || index == 0)) {
      eval::checked_prompt(*model_, {task, samples.at(index), index});
    }
  }
  return count;
}

eval::RunFacts Run::facts() const {
  const model::ModelFacts& model = loaded_.model->facts();
  eval::RunFacts facts;
  facts.version = KVMERGER_VERSION;
  facts.command = options_.command;
  facts.model_path = model.path;
  facts.model_name = model.name;
  facts.fingerprint = model.fingerprint;
  facts.model_context = loaded_.model->config().context;
  facts.cpu = bench::cpu_name();
  facts.simd = engine::simd_target();
  facts.threads = options_.threads > 0 ? options_.threads : std::max(1U, std::thread::hardware_concurrency());
  facts.mode = model_->mode();
  for (const eval::TaskFile& task : tasks_) facts.tasks.push_back(task.name);
  for (const eval::Candidate& candidate : candidates_) {
    const engine::CompactionSpec& spec = candidate.compactor.spec();
    facts.methods.emplace_back(Json::Object{{"method", candidate.name},
                                            {"policy", spec.policy},
                                            {"heads", spec.heads},
                                            {"fit", spec.fit},
                                            {"budget", spec.budget}});
  }
  facts.context = model_->options.context;
  facts.seed = options_.seed;
  facts.data = place(options_.data);
  if (!options_.haystack.empty()) facts.haystack = place(options_.haystack);
  facts.started = now_text();
  return facts;
}

void Run::provide_profiles() {
  Progress progress("Calibrating");
  for (eval::Candidate& candidate : candidates_) {
    engine::provide_profile(candidate.compactor, loaded_.model, *loaded_.tokenizer, options_.threads, "",
                            progress.hooks());
  }
}

void Run::answer(const eval::TaskFile& task, const eval::BenchListener& listener) const {
  const eval::SampleSet samples = open(task);
  for (uint32_t index = 0; index < samples.size(); ++index) {
    const auto todo = left(task, samples.ids[index]);
    if (!todo.empty()) eval::predict(*model_, {task, samples.at(index), index}, todo, listener);
  }
}

std::string summary(const eval::Prediction& prediction) {
  const double share = static_cast<double>(prediction.rows) / static_cast<double>(prediction.rows_before);
  return cat(prediction.key.task, " ", prediction.index, "  ", prediction.key.method,
             prediction.key.budget.empty() ? "" : " ", prediction.key.budget, "  ", thousands(prediction.prompt_tokens),
             " tokens, rows ", share_text(share), ", ", prediction.new_tokens, " new");
}

void Run::work() {
  size_t predictions = 0;
  for (const eval::TaskFile& task : tasks_) predictions += look_over(task);
  log_info(cat(loaded_.model->facts().name, ", ", model_->mode(), ": ", tasks_.size(), " tasks, ", predictions,
               " predictions to be made, ", before_.keys.size(), " are there"));
  eval::ResultsWriter writer(predictions_path(), before_.file);  // before another run's folder is touched
  std::optional<eval::ResultsWriter> traces;
  if (options_.traces) traces.emplace(traces_path(), traces_.file);
  eval::update_run_file((fs::path(options_.output) / "run.json").string(), facts());
  provide_profiles();
  Countdown countdown(predictions);
  Progress progress("");
  eval::BenchListener listener;
  listener.doing = [&](const std::string& what) { progress.say(what); };
  listener.cancelled = [] { return interrupted(); };
  listener.done = [&](const eval::Prediction& prediction) {
    writer.write(eval::to_json(prediction));
    progress.say("");
    countdown.say(summary(prediction));
  };
  if (traces) listener.trace = [&traces](const Json& record) { traces->write(record); };
  for (const eval::TaskFile& task : tasks_) answer(task, listener);
}

}  // namespace

void declare(CLI::App& app, EvalOptions& options) {
  const auto several = [](CLI::Option* option) { return option->take_all()->allow_extra_args(false)->delimiter(','); };
  several(app.add_option("--tasks", options.tasks, "Tasks or suites: longbench/qasper,needle"))->type_name("NAME");
  app.add_option("--policies,--methods", options.methods,
                 "Methods, or policy+heads+fit, separated by commas; none is the full cache")
      ->type_name("SPEC");
  several(app.add_option("--budgets", options.budgets, "Budgets of each, as --kv-budget: 50%,35%"))->type_name("SIZE");
  app.add_option("-o,--output", options.output, "Folder of predictions; what it has is not made again")
      ->type_name("DIR");
  app.add_option("--data", options.data, "Folder of the benchmarks' files")->capture_default_str()->type_name("DIR");
  app.add_option("--haystack", options.haystack,
                 "Text for needles and perplexity; without it DATA/texts/*.txt, or one built in")
      ->type_name("FILE");
  const auto number = [&](const char* name, uint32_t& field, int least, int most, const char* help) {
    app.add_option(name, field, help)
        ->capture_default_str()
        ->check(CLI::Range(least, most).description(""))
        ->type_name("N");
  };
  number("--limit", options.limit, 0, INT32_MAX, "The first so many samples of each task; 0: all");
  app.add_flag("--question-aware", options.question_aware, "Compress the whole prompt, the question included");
  app.add_flag("--traces", options.traces, "Also keep what became of the tokens of each task's first sample");
  app.add_option("--seed", options.seed, "Of what is made up")->capture_default_str()->type_name("N");
  app.add_option("-m,--model", options.model, "GGUF file; without it the model of tools/fetch_model")
      ->type_name("FILE");
  number("-c,--ctx-size", options.context, 0, INT32_MAX / 2,
         "Tokens of prompt and answer; 0: as the model was trained");
  number("-t,--threads", options.threads, 0, 512, "Threads; 0: one per core");
  number("-b,--batch-size", options.batch, 1, 65536, "Tokens read at once");
  app.add_flag("-q,--quiet", options.quiet, "Only warnings and errors on stderr");
  for (const auto& [name, help] : {std::pair("score", "Score the predictions in a folder"),
                                   std::pair("report", "Make a page of scores and figures: OUT -o report.html")}) {
    CLI::App* program = app.add_subcommand(name, help)->prefix_command();  // the rest is its own
    program->set_help_flag();
    program->callback([program, &options] {
      options.program = program->get_name();
      options.arguments = program->remaining();
    });
  }
}

int eval(const EvalOptions& options) {
  if (!options.program.empty()) become_python(options.program, options.arguments);
  check(options);
  try {
    Run(options).work();
  } catch (const engine::Interrupted&) {
    log_warn("interrupted; the same command goes on where it stopped");
    return interrupted_code();
  }
  return 0;
}

}  // namespace kvmerger::cli
