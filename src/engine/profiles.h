// Profiles of models: kept in the user's cache folder by the model's fingerprint, made on first use.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "budget/profile.h"
#include "engine/compactor.h"
#include "engine/session.h"
#include "text/tokenizer.h"

namespace kvmerger::engine {

struct CalibrateOptions {
  std::vector<std::string> texts;  // none: the built-in ones
  uint32_t tokens = 0;             // most tokens of each text; 0: as many as the built-in texts have
  uint32_t threads = 0;
};

// Reads each text, has it repeated and keeps what attention its rows got. Throws Error when a text is too short.
budget::Profile calibrate(const std::shared_ptr<const model::Model>& model, const text::Tokenizer& tokenizer,
                          const CalibrateOptions& options, const RunHooks& hooks = {});

// Where the profile of a model is kept: <user's cache>/kvmerger/profiles/<fingerprint>.json.
std::string profile_path(const model::Model& model);
// Both throw Error naming the file and what is wrong with it; load also when it is of another model.
void save_profile(const budget::Profile& profile, const std::string& path);
budget::Profile load_profile(const std::string& path, const model::Model& model);

// Gives the compactor the profile it needs, if it needs one: from `path`, or, when that is empty, from the user's
// cache, where it is made first if need be (said on stderr; takes well under a minute for small models).
void provide_profile(Compactor& compactor, const std::shared_ptr<const model::Model>& model,
                     const text::Tokenizer& tokenizer, uint32_t threads, const std::string& path = "",
                     const RunHooks& hooks = {});

}  // namespace kvmerger::engine
