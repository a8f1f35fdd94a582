#include "engine/profiles.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/clock.h"
#include "core/error.h"
#include "core/folders.h"
#include "core/log.h"
#include "engine/calibration_text.h"
#include "engine/prompt.h"

namespace kvmerger::engine {
namespace {

constexpr uint32_t kFirst = 4, kNewest = 32;  // rows whose scores say nothing: every method keeps them
constexpr uint32_t kLeastTokens = 256, kBuiltInTokens = 1024;

// The scores of each head's rows for one text, added to those of other texts.
void add_scores(const std::shared_ptr<const model::Model>& model, const text::Tokenizer& tokenizer,
                const std::vector<Token>& tokens, const CalibrateOptions& options, const RunHooks& hooks,
                std::vector<std::vector<float>>& scores) {
  SessionOptions session_options;
  session_options.threads = options.threads;
  session_options.needs.reconstruction = true;
  session_options.repeat_prompt = repeat_prompt(tokenizer);
  session_options.context = 2 * static_cast<uint32_t>(tokens.size()) + 1024;
  Session session(model, session_options);
  session.extend(tokens, false, {nullptr, hooks.cancelled});
  session.reconstruct({nullptr, hooks.cancelled});
  const model::DecoderConfig& config = model->config();
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    for (uint32_t head = 0; head < config.kv_heads; ++head) {
      const std::vector<float> rows = session.reconstruction(layer, head);
      std::vector<float>& all = scores[layer * config.kv_heads + head];
      all.insert(all.end(), rows.begin() + kFirst, rows.end() - kNewest);
    }
  }
}

std::vector<Token> calibration_tokens(const text::Tokenizer& tokenizer, const std::string& text, uint32_t most) {
  std::vector<Token> tokens = tokenizer.encode(text, true, false);
  tokens.resize(std::min<size_t>(tokens.size(), most));
  if (tokens.size() < kLeastTokens) {
    throw Error(cat("a text of ", tokens.size(), " tokens is too short to calibrate with; give one of ", kLeastTokens,
                    " or more"));
  }
  return tokens;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) throw Error(cat("cannot read ", path, ": ", std::strerror(errno)));
  return text.str();
}

}  // namespace

budget::Profile calibrate(const std::shared_ptr<const model::Model>& model, const text::Tokenizer& tokenizer,
                          const CalibrateOptions& options, const RunHooks& hooks) {
  const model::DecoderConfig& config = model->config();
  std::vector<std::string> texts = options.texts;
  if (texts.empty()) texts.assign(calibration_texts().begin(), calibration_texts().end());
  std::vector<std::vector<Token>> tokens;
  for (const std::string& text : texts) {
    tokens.push_back(calibration_tokens(tokenizer, text, options.tokens > 0 ? options.tokens : kBuiltInTokens));
  }
  budget::Profile profile{model->facts().fingerprint, model->facts().name, "", config.layers, config.kv_heads, {}};
  std::vector<std::vector<float>> scores(size_t{config.layers} * config.kv_heads);
  for (size_t text = 0; text < tokens.size(); ++text) {
    add_scores(model, tokenizer, tokens[text], options, hooks, scores);
    profile.made += cat(text == 0 ? "" : " and ", tokens[text].size());
    if (hooks.progress) hooks.progress(static_cast<uint32_t>(text + 1), static_cast<uint32_t>(tokens.size()));
  }
  profile.made += cat(" tokens of ", options.texts.empty() ? "the built-in text" : "the user's text",
                      ", kvmerger " KVMERGER_VERSION);
  for (std::vector<float>& rows : scores) profile.quantiles.push_back(budget::quantiles_of(std::move(rows)));
  return profile;
}

std::string profile_path(const model::Model& model) {
  return cat(cache_folder(), "/profiles/", model.facts().fingerprint, ".json");
}

void save_profile(const budget::Profile& profile, const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code failed;
  if (fs::path(path).has_parent_path()) fs::create_directories(fs::path(path).parent_path(), failed);
  const std::string temporary = cat(path, ".", ::getpid(), ".tmp");
  std::ofstream file(temporary, std::ios::binary);
  file << dump_json(budget::to_json(profile), -1) << "\n";
  file.close();
  if (!failed && file) fs::rename(temporary, path, failed);
  if (failed || !file) {
    const std::string why = failed ? failed.message() : std::strerror(errno);
    fs::remove(temporary, failed);
    throw Error(cat("cannot write the profile ", path, ": ", why));
  }
}

budget::Profile load_profile(const std::string& path, const model::Model& model) {
  try {
    budget::Profile profile = budget::profile_from_json(parse_json(read_file(path)));
    const model::DecoderConfig& config = model.config();
    if (profile.fingerprint != model.facts().fingerprint || profile.layers != config.layers ||
        profile.heads != config.kv_heads) {
      throw Error(cat("it is of another model (", profile.name, ", ", profile.fingerprint, ")"));
    }
    return profile;
  } catch (const Error& error) {
    throw Error(cat("the profile ", path, " cannot be used: ", error.what(),
                    "; make it again with kvmerger calibrate, or delete it"));
  }
}

void provide_profile(Compactor& compactor, const std::shared_ptr<const model::Model>& model,
                     const text::Tokenizer& tokenizer, uint32_t threads, const std::string& path,
                     const RunHooks& hooks) {
  if (!compactor.needs_profile()) return;
  const std::string file = path.empty() ? profile_path(*model) : path;
  std::error_code unknown;  // a name that no file can have
  if (path.empty() && !std::filesystem::exists(file, unknown)) {
    log_info("profile   first use of this model: measuring which heads need many rows (kvmerger calibrate)");
    const auto start = Clock::now();
    auto profile = std::make_shared<budget::Profile>(calibrate(model, tokenizer, {{}, 0, threads}, hooks));
    log_info(cat("profile   done in ", std::llround(seconds_since(start)), " s; kept as ", file));
    try {
      save_profile(*profile, file);
    } catch (const Error& error) {
      log_warn(cat(error.what(), "; it will be made again next time"));
    }
    compactor.use_profile(std::move(profile));
    return;
  }
  compactor.use_profile(std::make_shared<budget::Profile>(load_profile(file, *model)));
}

}  // namespace kvmerger::engine
