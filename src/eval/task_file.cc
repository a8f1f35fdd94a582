#include "eval/task_file.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "eval/json_lines.h"

namespace kvmerger::eval {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kContext = "{context}";
constexpr std::pair<const char*, Cut> kCuts[] = {
    {"middle", Cut::kMiddle}, {"context_end", Cut::kContextEnd}, {"none", Cut::kNone}};

std::vector<std::string> texts(const Json* json) {
  std::vector<std::string> texts;
  if (!json) return texts;
  for (const Json& item : json->array()) texts.push_back(item.text());
  return texts;
}

std::string text_or_empty(const Json* json) { return json ? json->text() : ""; }

Cut cut_of(const std::string& name) {
  for (const auto& [known, cut] : kCuts) {
    if (name == known) return cut;
  }
  throw Error(cat("truncation '", name, "' is not middle, context_end or none"));
}

void split_template(const std::string& text, TaskFile& task) {
  const size_t place = text.find(kContext);
  if (place == std::string::npos) throw Error("the template has no {context}");
  task.before = text.substr(0, place);
  task.after = text.substr(place + kContext.size());
}

TaskFile task_from_json(const Json& json) {
  TaskFile task;
  task.name = json.at("name").text();
  const Json& source = json.at("source");
  task.format = source.at("format").text();
  task.files = texts(find_member(source, "files"));
  split_template(json.at("template").text(), task);
  const int64_t most = json.at("max_tokens").integer();
  if (most < 0 || most > INT32_MAX) throw Error(cat("max_tokens ", most, " is not a number of tokens"));
  task.max_tokens = static_cast<uint32_t>(most);
  task.metric = json.at("metric").text();
  task.cut = cut_of(json.at("truncation").text());
  task.cut_note = text_or_empty(find_member(json, "truncation_note"));
  task.chat = json.at("chat").boolean();
  task.stops = texts(find_member(json, "stop"));
  const Json* options = find_member(json, "options");
  if (!options) options = find_member(source, "options");
  task.options = options ? *options : Json(Json::Object());
  return task;
}

// Task files below the folder, sorted, with the names they should have.
std::vector<std::pair<std::string, fs::path>> all_files(const std::string& folder) {
  std::vector<std::pair<std::string, fs::path>> files;
  if (!fs::is_directory(folder)) {
    throw Error(cat("the folder of tasks is not there: ", folder,
                    "; name the evaluation folder of the source with the environment variable KVMERGER_EVALUATION"));
  }
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    files.emplace_back(fs::relative(entry.path(), folder).replace_extension("").generic_string(), entry.path());
  }
  std::ranges::sort(files);
  return files;
}

std::string known_names(const std::vector<std::pair<std::string, fs::path>>& files) {
  std::string names;
  for (const auto& [name, path] : files) names += cat(names.empty() ? "" : ", ", name);
  return names;
}

}  // namespace

TaskFile read_task_file(const std::string& path) {
  try {
    return task_from_json(parse_json(read_file(path)));
  } catch (const Error& error) {
    throw Error(cat("the task ", path, " cannot be used: ", error.what()));
  }
}

std::vector<TaskFile> find_tasks(const std::string& folder, const std::vector<std::string>& names) {
  const auto files = all_files(folder);
  std::vector<TaskFile> tasks;
  for (const std::string& name : names) {
    bool found = false;
    for (const auto& [own, path] : files) {
      if (own != name && !own.starts_with(name + "/")) continue;
      found = true;
      TaskFile task = read_task_file(path.string());
      if (std::ranges::find(tasks, task.name, &TaskFile::name) == tasks.end()) tasks.push_back(std::move(task));
    }
    if (!found) throw UsageError(cat("there is no task or suite '", name, "'; known tasks: ", known_names(files)));
  }
  return tasks;
}

std::string fill_template(std::string_view text, const Fields& fields) {
  std::string filled;
  for (size_t at = 0; at < text.size();) {
    const size_t open = text.find('{', at), close = text.find('}', open);
    if (close == std::string_view::npos) return filled.append(text.substr(at));
    filled += text.substr(at, open - at);
    const auto field = fields.find(text.substr(open + 1, close - open - 1));
    filled += field == fields.end() ? text.substr(open, 1) : std::string_view(field->second);
    at = field == fields.end() ? open + 1 : close + 1;
  }
  return filled;
}

}  // namespace kvmerger::eval
