#include "eval/sources.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <string_view>

#include "core/error.h"
#include "eval/json_lines.h"
#include "text/stream.h"

namespace kvmerger::eval {
namespace {

// What a reader has: one record of the file.
struct Record {
  const Json& json;
  size_t line;
  const TaskFile& task;
};
using Samples = std::vector<Sample>;

const Json& field(const Json& json, const char* key) {
  const Json* member = find_member(json, key);
  if (!member) throw Error(cat("the field '", key, "' is missing"));
  return *member;
}

const std::string& text(const Json& json, const char* key) {
  const std::string* text = field(json, key).get<std::string>();
  if (!text) throw Error(cat("the field '", key, "' is no text"));
  return *text;
}

const Json::Array& list(const Json& json, const char* key) {
  const Json::Array* list = field(json, key).get<Json::Array>();
  if (!list) throw Error(cat("the field '", key, "' is no list"));
  return *list;
}

// A text, a number, or a list of them.
std::vector<std::string> texts(const Json& json, const char* key) {
  std::vector<std::string> texts;
  const auto add = [&](const Json& item) {
    if (const std::string* own = item.get<std::string>()) {
      texts.push_back(*own);
    } else if (const int64_t* number = item.get<int64_t>()) {
      texts.push_back(std::to_string(*number));
    } else {
      throw Error(cat("the field '", key, "' holds what is neither text nor number"));
    }
  };
  const Json& value = field(json, key);
  if (const Json::Array* items = value.get<Json::Array>()) {
    for (const Json& item : *items) add(item);
  } else {
    add(value);
  }
  if (texts.empty()) throw Error(cat("the field '", key, "' is empty: a sample without an answer cannot be scored"));
  return texts;
}

std::string strip_newlines(std::string_view text) {
  const size_t first = text.find_first_not_of('\n');
  return std::string(first == std::string_view::npos ? "" : text.substr(first));
}

// The record's own id, or its place.
std::string id_of(const Record& record, const char* key) {
  const Json* id = find_member(record.json, key);
  if (id && id->get<std::string>()) return id->text();
  return id && id->get<int64_t>() ? std::to_string(id->integer()) : std::to_string(record.line - 1);
}

void read_longbench(const Record& record, Samples& samples) {
  const Json& json = record.json;
  Sample sample =
      make_sample(record.task, id_of(record, "_id"), text(json, "context"), {{"input", text(json, "input")}});
  sample.answers = texts(json, "answers");
  if (find_member(json, "all_classes")) sample.classes = texts(json, "all_classes");
  samples.push_back(std::move(sample));
}

// The byte at which each of the given characters begins.
template <size_t kCount>
std::array<size_t, kCount> bytes_of_characters(const std::string& text, const std::array<int64_t, kCount>& characters) {
  std::array<size_t, kCount> bytes;
  bytes.fill(text.size());
  int64_t character = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    if (!text::begins_character(text[at])) continue;
    for (size_t index = 0; index < kCount; ++index) {
      if (characters[index] == character) bytes[index] = at;
    }
    ++character;
  }
  return bytes;
}

// The benchmark's own files: whole prompts, with places in characters. A sample with several references has as many
// records.
void read_zeroscrolls(const Record& record, Samples& samples) {
  const Json& json = record.json;
  const std::string& input = text(json, "input");
  const std::string id = id_of(record, "id");
  if (!samples.empty() && samples.back().id == id &&
      input == samples.back().before + samples.back().context + samples.back().after) {
    for (std::string& answer : texts(json, "output")) samples.back().answers.push_back(std::move(answer));
    return;
  }
  const std::array<int64_t, 3> places{field(json, "document_start_index").integer(),
                                      field(json, "document_end_index").integer(),
                                      field(json, "query_start_index").integer()};
  const auto [begin, end, query] = bytes_of_characters(input, places);
  if (begin > end || end > query) throw Error("document_start_index, document_end_index, query_start_index: no order");
  const Json* note = find_member(json, "truncation_seperator");  // as the benchmark spells it
  Sample sample;
  sample.id = id;
  sample.before = input.substr(0, begin);
  sample.context = input.substr(begin, end - begin);
  sample.after = input.substr(end);
  sample.after_cut = (note ? note->text() : "") + input.substr(query);
  sample.answers = texts(json, "output");
  samples.push_back(std::move(sample));
}

void read_squality(const Record& record, Samples& samples) {
  const Json& json = record.json;
  const std::string& passage = text(field(json, "metadata"), "passage_id");
  for (const Json& question : list(json, "questions")) {
    const int64_t number = field(question, "question_number").integer();
    Sample sample = make_sample(record.task, cat(passage, "-", number), text(json, "document"),
                                {{"input", text(question, "question_text")}});
    for (const Json& response : list(question, "responses")) sample.answers.push_back(text(response, "response_text"));
    if (sample.answers.empty()) throw Error(cat("question ", number, " has no responses: it cannot be scored"));
    samples.push_back(std::move(sample));
  }
}

// Marks of the transcribers that QMSum's authors take out.
std::string without_marks(std::string text) {
  for (const std::string_view mark :
       {"{vocalsound}", "{disfmarker}", "{pause}", "{nonvocalsound}", "{gap}", "a_m_i_", "l_c_d_", "p_m_s", "t_v_"}) {
    for (size_t at; (at = text.find(mark)) != std::string::npos;) text.erase(at, mark.size());
  }
  return text;
}

void read_qmsum(const Record& record, Samples& samples) {
  std::string transcript;
  for (const Json& turn : list(record.json, "meeting_transcripts")) {
    transcript +=
        cat(transcript.empty() ? "" : "\n", text(turn, "speaker"), ": ", without_marks(text(turn, "content")));
  }
  for (const char* queries : {"general_query_list", "specific_query_list"}) {
    uint32_t number = 0;
    for (const Json& query : list(record.json, queries)) {
      Sample sample = make_sample(record.task, cat(record.line - 1, "-", queries[0], number++), transcript,
                                  {{"input", text(query, "query")}});
      sample.answers = {text(query, "answer")};
      samples.push_back(std::move(sample));
    }
  }
}

// A whole prompt whose last part is the question, from `mark` on; the line break before it stays with the template.
Sample split_prompt(const Record& record, const std::string& id, const std::string& prompt, size_t mark) {
  if (mark == std::string::npos || mark == 0)
    throw Error("the prompt does not end with a question on a line of its own");
  return make_sample(record.task, id, prompt.substr(0, mark), {{"input", prompt.substr(mark + 1)}});
}

void read_lines(const Record& record, Samples& samples) {
  const std::string& prompt = text(record.json, "prompt");
  Sample sample =
      split_prompt(record, std::to_string(record.line - 1), prompt, prompt.rfind("\nNow the record is over"));
  sample.answers = texts(record.json, "expected_number");
  if (const Json* lines = find_member(record.json, "num_lines")) sample.extra.emplace_back("lines", *lines);
  samples.push_back(std::move(sample));
}

void read_kv_retrieval(const Record& record, Samples& samples) {
  std::string records;
  for (const Json& pair : list(record.json, "ordered_kv_records")) {
    const Json::Array& both = pair.array();
    if (both.size() != 2) throw Error("a record of 'ordered_kv_records' is no pair of key and value");
    records += cat(records.empty() ? "{" : ",\n ", '"', both[0].text(), "\": \"", both[1].text(), '"');
  }
  Sample sample = make_sample(record.task, std::to_string(record.line - 1), records + "}",
                              {{"input", text(record.json, "key")}, {"key", text(record.json, "key")}});
  sample.answers = texts(record.json, "value");
  samples.push_back(std::move(sample));
}

void read_passkey(const Record& record, Samples& samples) {
  Sample sample =
      make_sample(record.task, std::to_string(record.line - 1), text(record.json, "input"), {{"input", ""}});
  sample.answers = texts(record.json, "target");
  if (const Json* place = find_member(record.json, "passkey_position")) sample.extra.emplace_back("position", *place);
  samples.push_back(std::move(sample));
}

void read_ruler(const Record& record, Samples& samples) {
  const Json* prefix = find_member(record.json, "answer_prefix");  // apart from `input` in newer files
  const std::string& input = text(record.json, "input");
  Sample sample = split_prompt(record, id_of(record, "index"), input, input.rfind('\n'));
  if (prefix) sample.after += prefix->text();
  sample.answers = texts(record.json, "outputs");
  samples.push_back(std::move(sample));
}

constexpr struct Format {
  const char* name;
  void (*read)(const Record&, Samples&);  // adds the samples of one record
} kFormats[] = {
    {"longbench", &read_longbench}, {"zeroscrolls", &read_zeroscrolls},
    {"squality", &read_squality},   {"qmsum", &read_qmsum},
    {"lines", &read_lines},         {"kv_retrieval", &read_kv_retrieval},
    {"passkey", &read_passkey},     {"ruler", &read_ruler},
};

const Format& format_of(const TaskFile& task) {
  const auto found = std::ranges::find_if(kFormats, [&](const Format& format) { return task.format == format.name; });
  if (found != std::end(kFormats)) return *found;
  std::string names;
  for (const Format& format : kFormats) names += cat(names.empty() ? "" : ", ", format.name);
  throw Error(cat("the task ", task.name, " has a source of unknown format '", task.format, "'; formats: ", names));
}

// Files in which two samples have one id.
void make_ids_unique(Samples& samples) {
  std::set<std::string> ids;
  for (Sample& sample : samples) {
    const std::string id = sample.id;
    for (uint32_t count = 2; !ids.insert(sample.id).second; ++count) sample.id = cat(id, "#", count);
  }
}

}  // namespace

Sample make_sample(const TaskFile& task, std::string id, const std::string& context, const Fields& fields) {
  Sample sample;
  sample.id = std::move(id);
  sample.before = fill_template(task.before, fields);
  sample.context = context;
  sample.after = fill_template(task.after, fields);
  sample.after_cut = task.cut_note.empty() ? sample.after : task.cut_note + strip_newlines(sample.after);
  return sample;
}

std::string find_source(const TaskFile& task, const std::string& folder) {
  std::string names;
  for (const std::string& file : task.files) {
    const std::filesystem::path path = std::filesystem::path(folder) / file;
    if (std::filesystem::is_regular_file(path)) return path.string();
    names += cat(names.empty() ? "" : ", ", path.string());
  }
  throw Error(cat("no data for the task ", task.name, "; looked for ", names, ". Name the folder with --data"));
}

std::vector<Sample> read_source(const TaskFile& task, const std::string& path, uint32_t limit) {
  const Format& format = format_of(task);
  Samples samples;
  read_json_lines(path, [&](const Json& json, size_t line) {
    format.read({json, line, task}, samples);
    return limit == 0 || samples.size() <= limit;  // one more: the last one's references are then complete
  });
  if (samples.empty()) throw Error(cat(path, " holds no samples for the task ", task.name));
  if (limit > 0 && samples.size() > limit) samples.resize(limit);
  make_ids_unique(samples);
  return samples;
}

}  // namespace kvmerger::eval
