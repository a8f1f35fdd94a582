// The record of lines: names that look alike, each with five digits of its own.
#include <algorithm>
#include <set>

#include "core/error.h"
#include "eval/tasks.h"

namespace kvmerger::eval {
namespace {

constexpr const char* kWords[] = {"amber", "basil", "cedar", "delta", "ember",  "flint", "grove", "haven", "ivory",
                                  "jolly", "karma", "lemon", "maple", "noble",  "ocean", "pearl", "quill", "raven",
                                  "solar", "tiger", "ultra", "vivid", "willow", "xenon", "yacht", "zebra"};
constexpr size_t kTwoWordNames = 500;  // of the 676 there are; further lines have names of three words
constexpr const char* kHead =
    "Below is a record of lines I want you to remember. Each line begins with its name and holds a register "
    "content.\n\n";

struct Line {
  std::string name, content;
};

// Lines without end, no two of one name.
class LineMaker {
 public:
  LineMaker(const std::string& text, const TaskSizes& sizes) : rng_(task_rng("lines", text, sizes)) {}

  Line next() {
    std::string name;
    do {
      name = cat(word(), '-', word());
      if (names_.size() >= kTwoWordNames) name += cat('-', word());
    } while (!names_.insert(name).second);
    return {name, std::to_string(10000 + rng_.below(90000))};
  }
  Rng& rng() { return rng_; }

 private:
  const char* word() { return kWords[rng_.below(std::size(kWords))]; }

  Rng rng_;
  std::set<std::string> names_;
};

std::string text_of(const Line& line) {
  return cat("line ", line.name, ": REGISTER_CONTENT is <", line.content, ">\n");
}

std::string text_of(const std::vector<Line>& lines) {
  std::string text = kHead;
  for (const Line& line : lines) text += text_of(line);
  return text;
}

// As many lines as fit into the context.
std::vector<Line> fill(const text::Tokenizer& tokenizer, LineMaker& maker, uint32_t context,
                       std::vector<Token>& record) {
  std::vector<Line> lines;
  for (size_t tokens = tokenizer.encode(kHead, true, false).size(); tokens < context;) {
    lines.push_back(maker.next());
    tokens += tokenizer.encode(text_of(lines.back()), false, false).size();
  }
  while (record = tokenizer.encode(text_of(lines), true, false), record.size() > context && !lines.empty()) {
    lines.pop_back();
  }
  return lines;
}

size_t common_size(const std::vector<Token>& left, const std::vector<Token>& right) {
  return static_cast<size_t>(std::mismatch(left.begin(), left.end(), right.begin(), right.end()).first - left.begin());
}

// The digits as the model writes them behind the question: tokens may depend on what is before them.
Question make_question(const text::Tokenizer& tokenizer, const Line& line) {
  const std::string ask = cat("\nNow tell me: what is the REGISTER_CONTENT in line ", line.name,
                              "?\nThe REGISTER_CONTENT in line ", line.name, " is <");
  const std::vector<Token> all = tokenizer.encode(ask + line.content, false, false);
  const size_t cut = common_size(tokenizer.encode(ask, false, false), all);
  const auto answer = all.begin() + static_cast<std::ptrdiff_t>(cut);
  return {{all.begin(), answer}, {answer, all.end()}};
}

// Moves what all questions begin with to Lines::common; leaves each at least one token.
void factor_out(Lines& lines) {
  size_t common = lines.questions.front().ask.size();
  for (const Question& question : lines.questions) {
    common = std::min({common, common_size(question.ask, lines.questions.front().ask), question.ask.size() - 1});
  }
  for (Question& question : lines.questions) {
    const auto end = question.ask.begin() + static_cast<std::ptrdiff_t>(common);
    lines.common.assign(question.ask.begin(), end);
    question.ask.erase(question.ask.begin(), end);
  }
}

}  // namespace

Lines make_lines(const text::Tokenizer& tokenizer, const std::string& name, const TaskSizes& sizes) {
  LineMaker maker(name, sizes);
  Lines lines;
  std::vector<Line> all = fill(tokenizer, maker, sizes.context, lines.record);
  lines.count = static_cast<uint32_t>(all.size());
  if (sizes.questions == 0 || lines.count < sizes.questions) {
    throw UsageError(cat("a record of ", sizes.context, " tokens has ", lines.count, " lines, too few for ",
                         sizes.questions, " questions; give a larger -c, fewer --questions or --skip-lines"));
  }
  for (uint32_t index = 0; index < sizes.questions; ++index) {  // drawn without putting back
    std::swap(all[index], all[index + maker.rng().below(lines.count - index)]);
    lines.questions.push_back(make_question(tokenizer, all[index]));
  }
  factor_out(lines);
  const auto length = [](const Question& question) { return question.ask.size() + question.answer.size(); };
  std::ranges::stable_sort(lines.questions, {}, length);  // equal lengths share a graph
  return lines;
}

}  // namespace kvmerger::eval
