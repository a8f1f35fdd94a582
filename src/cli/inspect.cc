// kvmerger inspect: what a model is, and what its cache costs.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/load.h"
#include "core/error.h"
#include "core/json.h"
#include "engine/session.h"

namespace kvmerger::cli {
namespace {

constexpr uint32_t kTemplateLines = 4;

size_t cache_bytes(const model::DecoderConfig& config, kernels::RowType type) {
  return engine::cache_bytes_per_token(config, type, type);
}

const char* rope_type(const model::Rope& rope) {
  if (rope.ext_factor != 0.0F) return "yarn";
  return rope.scale == 1.0F ? "none" : "linear";
}

Json to_json(const Loaded& loaded) {
  const model::ModelFacts& facts = loaded.model->facts();
  const model::DecoderConfig& config = loaded.model->config();
  const model::Weights& weights = loaded.model->weights();
  const model::Rope& rope = config.rope;
  return Json::Object{{"name", facts.name},
                      {"path", facts.path},
                      {"architecture", config.arch->name},
                      {"license", facts.license},
                      {"fingerprint", facts.fingerprint},
                      {"file_bytes", facts.file_bytes},
                      {"parameters", facts.parameters},
                      {"number_types", facts.number_types},
                      {"tensor_bytes", weights.bytes},
                      {"repacked_bytes", weights.repacked_bytes},
                      {"layers", config.layers},
                      {"heads", config.heads},
                      {"kv_heads", config.kv_heads},
                      {"head_dim", config.head_dim},
                      {"embedding", config.embedding},
                      {"feed_forward", config.feed_forward},
                      {"vocabulary", config.vocabulary},
                      {"context", config.context},
                      {"kv_bytes_per_token", Json::Object{{"f16", cache_bytes(config, kernels::RowType::kF16)},
                                                          {"f32", cache_bytes(config, kernels::RowType::kF32)},
                                                          {"q8_0", cache_bytes(config, kernels::RowType::kQ8)}}},
                      {"rope", Json::Object{{"dims", rope.dims},
                                            {"base", double{rope.base}},
                                            {"scaling", rope_type(rope)},
                                            {"scale", double{rope.scale}},
                                            {"original_context", rope.original_context}}},
                      {"adds_bos", loaded.tokenizer->adds_bos()},
                      {"chat_template", loaded.tokenizer->chat_template()}};
}

std::string first_lines(const std::string& text, uint32_t lines) {
  size_t end = 0;
  for (uint32_t line = 0; line < lines && end != std::string::npos; ++line) end = text.find('\n', end + (line > 0));
  return end == std::string::npos ? text : text.substr(0, end) + "\n... (whole with -v)";
}

std::string cache_text(const model::DecoderConfig& config, kernels::RowType type) {
  const size_t bytes = cache_bytes(config, type);
  return cat(bytes_text(bytes), " a token, ", bytes_text(bytes * config.context), " for the whole context");
}

using Lines = std::vector<std::pair<const char*, std::string>>;

Lines describe(const Loaded& loaded) {
  const model::ModelFacts& facts = loaded.model->facts();
  const model::DecoderConfig& config = loaded.model->config();
  const model::Weights& weights = loaded.model->weights();
  const model::Rope& rope = config.rope;
  return {
      {"name", facts.name},
      {"file", cat(facts.path, ", ", bytes_text(facts.file_bytes))},
      {"licence", facts.license.empty() ? "not stated in the file" : facts.license},
      {"fingerprint", facts.fingerprint},
      {"architecture", cat(config.arch->name, " (", config.arch->line, ")")},
      {"parameters", cat(thousands(facts.parameters), " as ", facts.number_types)},
      {"repacked", cat(bytes_text(weights.repacked_bytes), " of ", bytes_text(weights.bytes), " for faster products")},
      {"layers", cat(config.layers)},
      {"heads", cat(config.heads, " query, ", config.kv_heads, " KV, of ", config.head_dim, " numbers")},
      {"vocabulary", cat(thousands(config.vocabulary), loaded.tokenizer->adds_bos() ? ", BOS is added" : "")},
      {"context", cat(thousands(config.context), " tokens")},
      {"rope", cat("base ", rope.base, ", ", rope.dims, " of ", config.head_dim, " numbers, scaling ", rope_type(rope),
                   " (positions x ", rope.scale, ")")},
      {"KV cache f16", cache_text(config, kernels::RowType::kF16)},
      {"KV cache q8_0", cache_text(config, kernels::RowType::kQ8)},
      {"KV cache f32", cache_text(config, kernels::RowType::kF32)}};
}

}  // namespace

int inspect(const InspectOptions& options) {
  const Loaded loaded = load_model(options.model, model::WeightLayout::kRepacked);
  if (options.json) {
    std::printf("%s\n", dump_json(to_json(loaded)).c_str());
    return 0;
  }
  for (const auto& [what, value] : describe(loaded)) std::printf("%-14s%s\n", what, value.c_str());
  const std::string source = loaded.tokenizer->chat_template();
  const std::string shown = options.verbose ? source : first_lines(source, kTemplateLines);
  std::printf("%-14s%s\n", "chat template", shown.empty() ? "none" : cat("\n", shown).c_str());
  return 0;
}

}  // namespace kvmerger::cli
