#include "cli/app.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <new>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "core/error.h"
#include "core/log.h"

namespace kvmerger::cli {
namespace {

constexpr const char* kFooter =
    "stdout carries the answer, stderr everything else.\n"
    "Exit codes: 0 done, 1 error (file, model, memory, closed stdout), 2 wrong usage, 130 interrupted (Ctrl-C).\n"
    "The environment variable KVMERGER_TARGET forces an instruction set (scalar, avx2, ...).";

// All commands with their options; `chosen` is what the command line asks for.
struct Program {
  CLI::App app{"Answers questions about long texts with a KV cache that is merged to a budget.", "kvmerger"};
  RunOptions run, chat;
  CompressOptions compress;
  AskOptions ask;
  PerplexityOptions perplexity;
  QualityOptions quality;
  BenchOptions bench;
  EvalOptions eval;
  CalibrateOptions calibrate;
  InspectOptions inspect;
  std::string axis;
  std::function<int()> chosen;

  Program();
  CLI::App& command(const char* name, const char* help, std::function<int()> work);
  void declare_reading();
  void declare_asking();
  void declare_calibrate();
  void declare_looking();
  void declare_eval();
};

void set_talk(const TalkFlags& talk) {
  if (talk.verbose) set_log_level(LogLevel::kDebug);
  if (talk.quiet) set_log_level(LogLevel::kWarn);
}

CLI::App& Program::command(const char* name, const char* help, std::function<int()> work) {
  CLI::App* command = app.add_subcommand(name, help)->group("Commands");
  command->callback([this, work = std::move(work)] { chosen = work; });
  return *command;
}

template <typename... Flags>
void declare_all(CLI::App& app, Flags&... flags) {
  (declare(app, flags), ...);
}

// The options of run and chat are the same.
void declare_conversation(CLI::App& app, RunOptions& options) {
  declare_all(app, options.text, options.cache, options.types, options.generation, options.model, options.talk);
}

void Program::declare_reading() {
  CLI::App& run_command = command("run", "Answer one prompt, e.g. a question (-p) about a document (-f)", [this] {
    set_talk(run.talk);
    return cli::run(run);
  });
  declare_conversation(run_command, run);
  CLI::App& chat_command =
      command("chat", "Talk, line by line on stdin; with -f about a document. /exit ends it", [this] {
        set_talk(chat.talk);
        return cli::chat(chat);
      });
  declare_conversation(chat_command, chat);
  CLI::App& compress_command =
      command("compress", "Read a document once and keep its compacted cache in a file", [this] {
        set_talk(compress.talk);
        return cli::compress(compress);
      });
  compress_command.add_option("-o,--output", compress.output, "File to write, by custom *.kvm")
      ->required()
      ->type_name("FILE");
  declare_document(compress_command, compress.text);
  declare_all(compress_command, compress.cache, compress.types, compress.model, compress.talk);
}

void Program::declare_asking() {
  CLI::App& ask_command = command("ask", "Ask about a document read by compress, without reading it again", [this] {
    set_talk(ask.talk);
    return cli::ask(ask);
  });
  ask_command.add_option("snapshot", ask.snapshot, "File written by compress")->required()->type_name("FILE");
  declare_question(ask_command, ask.text);
  declare_all(ask_command, ask.generation, ask.model, ask.talk);
}

void Program::declare_calibrate() {
  CLI::App& command =
      this->command("calibrate", "Measure which heads of a model need many rows (--kv-heads profile)", [this] {
        set_talk(calibrate.talk);
        return cli::calibrate(calibrate);
      });
  command.add_option("model,-m,--model", calibrate.model.model, "GGUF file; without it the model of tools/fetch_model")
      ->type_name("FILE");
  command.add_option("--text,-f,--file", calibrate.texts, "Text to measure on, may be given again; without it ours")
      ->type_name("FILE")
      ->take_all()
      ->allow_extra_args(false);
  command.add_option("--tokens", calibrate.tokens, "Most tokens of each text; 0: 1,024")
      ->check(CLI::Range(0, 1 << 20).description(""))
      ->type_name("N");
  command.add_option("-o,--output", calibrate.output, "File to write; without it the user's cache, where it is found")
      ->type_name("FILE");
  command.add_option("-t,--threads", calibrate.model.threads, "Threads; 0: one per core")
      ->check(CLI::Range(0, 512).description(""))
      ->type_name("N");
  declare_logging(command, calibrate.talk);
}

void Program::declare_looking() {
  CLI::App& inspect_command =
      command("inspect", "What a model is, and what its cache costs", [this] { return cli::inspect(inspect); });
  inspect_command.add_option("model,-m,--model", inspect.model, "GGUF file; without it the model of tools/fetch_model")
      ->type_name("FILE");
  inspect_command.add_flag("--json", inspect.json, "As JSON");
  inspect_command.add_flag("-v,--verbose", inspect.verbose, "The whole chat template");

  CLI::App& list_command = command("list", "What can be chosen: methods, policies, budgets, fits, moments, archs",
                                   [this] { return cli::list(axis); });
  list_command.add_option("axis", axis, "One of them; without it all")->type_name("NAME");

  CLI::App& perplexity_command = command("perplexity", "Perplexity of a text, as llama-perplexity defines it", [this] {
    set_talk(perplexity.talk);
    return cli::perplexity(perplexity);
  });
  perplexity.model.context = 512;
  perplexity_command.add_option("-f,--file", perplexity.file, "Text; - reads stdin")->required()->type_name("FILE");
  perplexity_command.add_option("--chunks", perplexity.chunks, "Chunks to score; -1: all")
      ->capture_default_str()
      ->type_name("N");
  declare_all(perplexity_command, perplexity.types, perplexity.model, perplexity.talk);

  CLI::App& quality_command =
      command("quality", "What methods lose at budgets, against the full cache, on texts", [this] {
        if (quality.quiet) set_log_level(LogLevel::kWarn);
        return cli::quality(quality);
      });
  declare(quality_command, quality);

  CLI::App& bench_command =
      command("bench", "Speed and memory at depths, with methods and budgets, as llama-bench", [this] {
        if (bench.quiet) set_log_level(LogLevel::kWarn);
        return cli::bench(bench);
      });
  declare(bench_command, bench);
}

void Program::declare_eval() {
  CLI::App& command = this->command("eval", "Benchmarks answered with methods at budgets, scored and shown", [this] {
    if (eval.quiet) set_log_level(LogLevel::kWarn);
    return cli::eval(eval);
  });
  declare(command, eval);
}

Program::Program() {
  app.set_version_flag("--version", "kvmerger " KVMERGER_VERSION);
  app.require_subcommand(1);
  app.footer(kFooter);
  app.get_formatter()->column_width(34);
  app.get_formatter()->label("SUBCOMMAND", "COMMAND");
  declare_reading();
  declare_asking();
  declare_calibrate();
  declare_looking();
  declare_eval();
}

int complain(int code, const std::string& message) {
  std::fprintf(stderr, "error: %s\n", message.c_str());
  return code;
}

// CLI11 takes -ngl for -n with the value gl; name the real culprit.
std::string unknown_flag(const std::vector<std::string>& arguments) {
  const auto letter = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; };
  for (const std::string& argument : arguments) {
    if (argument.size() > 2 && argument[0] == '-' && letter(argument[1]) && letter(argument[2])) return argument;
  }
  return "";
}

int usage_error(const CLI::ParseError& error, const Program& program, const std::vector<std::string>& arguments) {
  const auto commands = program.app.get_subcommands();
  if (arguments.empty()) {
    std::fputs(program.app.help().c_str(), stderr);
    return 2;
  }
  std::string message = error.what();
  if (const std::string unknown = unknown_flag(arguments); !unknown.empty())
    message = cat("unknown flag '", unknown, "'");
  if (commands.empty() && arguments[0][0] != '-') message = cat("unknown command '", arguments[0], "'");
  return complain(
      2, cat(message, "; see kvmerger ", commands.empty() ? "" : commands.front()->get_name() + " ", "--help"));
}

int parse(Program& program, const std::vector<std::string>& arguments) {
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
    program.app.parse(reversed);
    return 0;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) return usage_error(error, program, arguments);
    program.app.exit(error);  // --help and --version
    return 0;
  }
}

int work(const std::function<int()>& command) {
  try {
    return command();
  } catch (const UsageError& error) {
    return complain(2, error.what());
  } catch (const Error& error) {
    return complain(1, error.what());
  } catch (const std::bad_alloc&) {
    return complain(1, "out of memory; a smaller --kv-budget or -c, -b or model needs less");
  } catch (const engine::Interrupted&) {
    return complain(interrupted_code(), "interrupted");
  } catch (const std::exception& error) {
    return complain(1, error.what());
  }
}

}  // namespace

int run_program(const std::vector<std::string>& arguments) {
  catch_interrupts();
  Program program;
  program.eval.command = arguments;
  const int code = parse(program, long_form(arguments));
  const int result = program.chosen ? work(program.chosen) : code;
  if (result == 0 && (std::fflush(stdout) != 0 || std::ferror(stdout))) return complain(1, "cannot write to stdout");
  return result;
}

}  // namespace kvmerger::cli
