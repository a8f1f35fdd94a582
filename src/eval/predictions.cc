#include "eval/predictions.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace kvmerger::eval {
namespace {

constexpr std::string_view kBegin = "{\"task\":";  // of a prediction

Json::Array array_of(const std::vector<std::string>& texts) { return {texts.begin(), texts.end()}; }

Json head_rows_json(const std::vector<std::vector<uint32_t>>& layers) {
  if (layers.empty()) return {};
  Json::Array all;
  for (const std::vector<uint32_t>& heads : layers) all.emplace_back(Json::Array(heads.begin(), heads.end()));
  return all;
}

Json to_json(const RunFacts& facts) {
  return Json::Object{{"version", facts.version},
                      {"commands", Json::Array{array_of(facts.command)}},
                      {"model", Json::Object{{"path", facts.model_path},
                                             {"name", facts.model_name},
                                             {"fingerprint", facts.fingerprint},
                                             {"context", facts.model_context}}},
                      {"machine", Json::Object{{"cpu", facts.cpu}, {"threads", facts.threads}, {"simd", facts.simd}}},
                      {"mode", facts.mode},
                      {"tasks", array_of(facts.tasks)},
                      {"methods", facts.methods},
                      {"context", facts.context},
                      {"seed", facts.seed},
                      {"data", facts.data},
                      {"haystack", facts.haystack},
                      {"started", facts.started}};
}

void check_same(const Json& before, const Json& now, const std::string& path) {
  const auto check = [&](const char* field, const Json& left, const Json& right) {
    const std::string was = dump_json(left, -1), is = dump_json(right, -1);
    if (was == is) return;
    throw UsageError(
        cat(path, " is of another run: its ", field, " is ", was, ", now ", is, "; name another folder with -o"));
  };
  check("model", before.at("model").at("fingerprint"), now.at("model").at("fingerprint"));
  for (const char* field : {"mode", "context", "seed", "data", "haystack"}) {
    check(field, before.at(field), now.at(field));
  }
}

// Items of both, those of `before` first, each once.
Json::Array joined(const Json::Array& before, const Json::Array& now) {
  Json::Array all = before;
  for (const Json& item : now) {
    const auto same = [&](const Json& other) { return dump_json(other, -1) == dump_json(item, -1); };
    if (std::ranges::none_of(all, same)) all.push_back(item);
  }
  return all;
}

Json read_run_file(const std::string& path) {
  try {
    return parse_json(read_file(path));
  } catch (const Error& error) {
    throw Error(cat(path, " cannot be read (", error.what(), "); name another folder with -o"));
  }
}

}  // namespace

PredictionKey prediction_key(const std::string& task, const std::string& id, const std::string& method,
                             const engine::CompactionSpec& spec, const std::string& mode) {
  return {task, id, method, spec.policy, spec.heads, spec.fit, spec.budget, mode};
}

Json to_json(const Prediction& prediction) {
  const PredictionKey& key = prediction.key;
  return Json::Object{{"task", key.task},
                      {"id", key.id},
                      {"index", prediction.index},
                      {"method", key.method},
                      {"policy", key.policy},
                      {"heads", key.heads},
                      {"fit", key.fit},
                      {"budget", key.budget},
                      {"mode", key.mode},
                      {"prediction", prediction.text},
                      {"answers", array_of(prediction.answers)},
                      {"all_classes", array_of(prediction.classes)},
                      {"metric", prediction.metric},
                      {"extra", prediction.extra},
                      {"prompt_tokens", prediction.prompt_tokens},
                      {"dropped_tokens", prediction.dropped_tokens},
                      {"new_tokens", prediction.new_tokens},
                      {"rows_before", prediction.rows_before},
                      {"rows", prediction.rows},
                      {"bytes_full", prediction.bytes_full},
                      {"bytes", prediction.bytes},
                      {"prefill_s", prediction.prefill_s},
                      {"statistics_s", prediction.statistics_s},
                      {"compact_s", prediction.compact_s},
                      {"decode_s", prediction.decode_s},
                      {"head_rows", head_rows_json(prediction.head_rows)}};
}

PredictionsRead read_predictions(const std::string& path) {
  PredictionsRead read;
  read.file = read_results(path, kBegin, [&](const Json& line) {
    const auto text = [&](const char* key) { return line.at(key).text(); };
    read.keys.insert({text("task"), text("id"), text("method"), text("policy"), text("heads"), text("fit"),
                      text("budget"), text("mode")});
  });
  return read;
}

void update_run_file(const std::string& path, const RunFacts& facts) {
  Json now = to_json(facts);
  if (std::filesystem::exists(path)) {
    const Json before = read_run_file(path);
    try {
      check_same(before, now, path);
    } catch (const UsageError&) {
      throw;
    } catch (const Error& error) {
      throw Error(cat(path, " is not the file of a run (", error.what(), "); name another folder with -o"));
    }
    Json::Object members = *before.get<Json::Object>();
    for (auto& [name, value] : members) {
      if (name == "tasks" || name == "methods" || name == "commands")
        value = joined(value.array(), now.at(name).array());
    }
    now = std::move(members);
  }
  write_atomically(path, dump_json(now) + "\n");
}

}  // namespace kvmerger::eval
