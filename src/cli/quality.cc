// kvmerger quality: methods at budgets, measured against the full cache on texts (src/eval).
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <set>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/load.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/texts.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/profiles.h"
#include "eval/plot.h"
#include "eval/runner.h"
#include "eval/table.h"

namespace kvmerger::cli {
namespace {

eval::TaskSizes sizes(const QualityOptions& options, uint32_t context) {
  return {context, options.continuation, options.passages, options.skip_lines ? 0 : options.questions, options.seed};
}

void warn_of_length(const model::Model& model, const QualityOptions& options) {
  const uint32_t longest = *std::ranges::max_element(options.contexts) + options.continuation;
  if (longest > model.config().context) {
    log_warn(cat("texts of ", thousands(longest), " tokens are longer than the model was trained for (",
                 thousands(model.config().context), "); expect worse predictions beyond that"));
  }
}

std::vector<eval::TextTasks> all_tasks(const QualityOptions& options, const text::Tokenizer& tokenizer) {
  std::vector<eval::TextTasks> tasks;
  std::set<std::string> names;
  for (const std::string& file : options.files) {
    const std::string name = std::filesystem::path(file).stem().string(), text = read_document(file);
    if (interrupted()) throw engine::Interrupted();
    if (!names.insert(name).second) {
      throw UsageError(cat("two texts are called ", name, "; their rows could not be told apart"));
    }
    for (const uint32_t context : options.contexts) {
      tasks.push_back(eval::make_tasks(tokenizer, name, text, sizes(options, context)));
    }
  }
  return tasks;
}

// What is left to measure on one text.
struct Todo {
  const eval::TextTasks* tasks;
  std::vector<const eval::Candidate*> candidates;
};

std::vector<Todo> left_to_do(const eval::Bench& bench, const std::vector<eval::TextTasks>& tasks,
                             const std::vector<eval::Candidate>& candidates, const std::vector<eval::Row>& rows) {
  std::vector<Todo> todo;
  for (const eval::TextTasks& text : tasks) {
    Todo left{&text, {}};
    for (const eval::Candidate& candidate : candidates) {
      const eval::RowKey key = eval::row_key(bench, text, candidate);
      if (std::ranges::find(rows, key, &eval::Row::key) == rows.end()) left.candidates.push_back(&candidate);
    }
    if (!left.candidates.empty()) todo.push_back(std::move(left));
  }
  return todo;
}

std::string summary(const eval::Row& row) {
  const eval::RowKey& key = row.key;
  std::string line = cat(key.text, " ", key.sizes.context, "  ", key.method);
  if (!key.spec.budget.empty()) line += " " + key.spec.budget;
  line += cat("  rows ", share_text(row.rows_share), "  KL ", fixed(row.kl, 5), "  recall ", fixed(row.recall_dnll, 4));
  if (row.lines) line += cat("  lines ", fixed(row.lines->em, 2), " of ", fixed(row.lines->em_full, 2));
  return line;
}

size_t rows_of(const std::vector<Todo>& todo) {
  size_t rows = 0;
  for (const Todo& text : todo) rows += text.candidates.size();
  return rows;
}

void measure_all(const eval::Bench& bench, const std::vector<Todo>& todo, eval::RowWriter& writer) {
  Countdown countdown(rows_of(todo));
  Progress progress("");
  const eval::Listener listener{[&](const std::string& what) { progress.say(what); }, [] { return interrupted(); },
                                [&](const eval::Row& row) {
                                  writer.write(row);
                                  progress.say("");
                                  countdown.say(summary(row));
                                }};
  for (const Todo& text : todo) eval::measure(bench, *text.tasks, text.candidates, listener);
}

// Rows go into a file of their own: table and plot are written beside it.
void check_output(const std::string& path) {
  const std::string ending = std::filesystem::path(path).extension().string();
  if (ending != ".md" && ending != ".svg") return;
  throw UsageError(cat("--output ", path,
                       ": the table and the plot take the endings .md and .svg; name the file of rows "
                       "with another, e.g. ",
                       std::filesystem::path(path).replace_extension(".jsonl").string()));
}

// Flags that measuring needs and --table does not.
void check(const QualityOptions& options) {
  if (options.files.empty()) throw UsageError("no text to measure on: name one or more with -f");
  if (options.contexts.empty()) throw UsageError("no context size: name one or more with -c, e.g. -c 2048,6144");
  if (options.methods.empty())
    throw UsageError("no methods: name them with --methods, e.g. --methods default,paper,h2o");
}

// False when interrupted.
bool measure(const QualityOptions& options, std::vector<eval::Candidate>& methods, const eval::RowsRead& before) {
  const Loaded loaded = load_model(
      options.model, options.quantised_products ? model::WeightLayout::kRepacked : model::WeightLayout::kF32);
  warn_of_length(*loaded.model, options);
  const std::vector<eval::TextTasks> tasks = all_tasks(options, *loaded.tokenizer);
  eval::Bench bench{loaded.model, *loaded.tokenizer, {}, options.quantised_products ? "quantised" : "f32"};
  bench.options.key_type = row_type(options.types.key);
  bench.options.value_type = row_type(options.types.value);
  bench.options.threads = options.threads;
  bench.options.batch = options.batch;
  const std::vector<Todo> todo = left_to_do(bench, tasks, methods, before.rows);
  log_info(cat(loaded.model->facts().name, ": ", tasks.size() * methods.size(), " rows, ", rows_of(todo),
               " of them to be measured"));
  eval::RowWriter writer(options.output, before.file);
  try {
    Progress progress("Calibrating");
    for (eval::Candidate& method : methods) {
      const auto has = [&](const Todo& text) { return std::ranges::count(text.candidates, &method) > 0; };
      if (std::ranges::none_of(todo, has)) continue;
      engine::provide_profile(method.compactor, loaded.model, *loaded.tokenizer, options.threads, "", progress.hooks());
    }
    measure_all(bench, todo, writer);
  } catch (const engine::Interrupted&) {
    return false;
  }
  return true;
}

// Table and picture of all rows in the file: beside it, and the table on stdout.
int show_results(const std::string& path) {
  const std::vector<eval::Row> rows = eval::read_rows(path).rows;
  if (rows.empty()) {
    log_warn(cat("no rows in ", path, ": no table, no plot"));
    return 1;
  }
  const std::vector<eval::Section> sections = eval::summarise(rows);
  const std::string table = eval::table_markdown(sections);
  std::filesystem::path beside = path;
  write_file(beside.replace_extension(".md"), table);
  write_file(beside.replace_extension(".svg"), eval::plot_svg(sections));
  Answer out;
  out.write(table);
  return out.closed() ? 1 : 0;
}

}  // namespace

void declare(CLI::App& app, QualityOptions& options) {
  const auto several = [](CLI::Option* option) { return option->take_all()->allow_extra_args(false); };
  several(app.add_option("-f,--file", options.files, "Text; may be given several times"))->type_name("FILE");
  several(app.add_option("-c,--ctx-size", options.contexts, "Tokens that are compressed, one or several: 2048,6144"))
      ->delimiter(',')
      ->check(CLI::Range(1, INT32_MAX / 2).description(""))
      ->type_name("N");
  app.add_option("--methods", options.methods, "Methods, or policy+heads+fit, separated by commas")->type_name("SPEC");
  several(app.add_option("--budgets", options.budgets, "Budgets of each, as --kv-budget: 50%,35%"))
      ->delimiter(',')
      ->type_name("SIZE");
  app.add_option("-o,--output", options.output, "Rows of results, one JSON a line; what it has is not measured again")
      ->required()
      ->type_name("FILE");
  const auto number = [&](const char* name, uint32_t& field, int least, int most, const char* help) {
    app.add_option(name, field, help)
        ->capture_default_str()
        ->check(CLI::Range(least, most).description(""))
        ->type_name("N");
  };
  number("--continuation", options.continuation, 2, 1 << 20, "Tokens behind the context to predict");
  number("--passages", options.passages, 1, 1000, "Passages of the context to say again");
  number("--questions", options.questions, 1, 1000, "Questions about a record of lines");
  app.add_flag("--table", options.table_only, "Measure nothing: table and plot of the rows that are there");
  app.add_flag("--skip-lines", options.skip_lines, "No record of lines");
  app.add_flag("--quantised-products", options.quantised_products,
               "Multiply with the weights as they are: faster, but the rounding of activations shows as KL");
  app.add_option("--seed", options.seed, "Where passages lie, what the lines are")
      ->capture_default_str()
      ->type_name("N");
  app.add_option("-m,--model", options.model, "GGUF file; without it the model of tools/fetch_model")
      ->type_name("FILE");
  number("-t,--threads", options.threads, 0, 512, "Threads; 0: one per core");
  number("-b,--batch-size", options.batch, 1, 65536, "Tokens read at once");
  declare(app, options.types);
  app.add_flag("-q,--quiet", options.quiet, "Only warnings and errors on stderr");
}

int quality(const QualityOptions& options) {
  check_output(options.output);
  if (options.table_only) return show_results(options.output);
  check(options);
  std::vector<eval::Candidate> methods = eval::make_candidates(options.methods, options.budgets);
  check_writable(options.output, "--output");
  const eval::RowsRead before = eval::read_rows(options.output);
  const bool done = measure(options, methods, before);
  show_results(options.output);
  if (!done) log_warn("interrupted; the same command goes on where it stopped");
  return done ? 0 : interrupted_code();
}

}  // namespace kvmerger::cli
