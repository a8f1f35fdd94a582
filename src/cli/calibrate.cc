// kvmerger calibrate: the profile of a model, which says how many rows each head deserves.
#include <algorithm>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/load.h"
#include "cli/progress.h"
#include "cli/texts.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/profiles.h"

namespace kvmerger::cli {
namespace {

// "of 90 heads, 4 need over half of the rows, the median needs 3.1 %" at a third of all rows.
std::string describe(const budget::Profile& profile) {
  budget::Request request;
  request.layers = profile.layers;
  request.heads = profile.heads;
  constexpr uint32_t kRows = 10000;
  const uint32_t count = profile.layers * profile.heads;
  request.have.assign(count, kRows);
  request.whole.assign(profile.layers, 0);
  request.total = uint64_t{count} * kRows * 35 / 100;
  request.profile = &profile;
  std::vector<uint32_t> rows = budget::make("profile")->rows(request).rows;
  std::sort(rows.begin(), rows.end());
  const auto over_half = rows.end() - std::upper_bound(rows.begin(), rows.end(), kRows / 2);
  return cat("at 35 % of all rows ", over_half, " of ", count, " heads get over half of their rows, the median ",
             share_text(static_cast<double>(rows[count / 2]) / kRows));
}

}  // namespace

int calibrate(const CalibrateOptions& options) {
  engine::CalibrateOptions wanted{{}, options.tokens, options.model.threads};
  for (const std::string& file : options.texts) wanted.texts.push_back(read_document(file));
  check_writable(options.output, "--output");
  const Loaded loaded = load_model(options.model.model, model::WeightLayout::kRepacked);
  const std::string path = options.output.empty() ? engine::profile_path(*loaded.model) : options.output;
  const auto start = Clock::now();
  Progress progress("calibrating");
  const budget::Profile profile = engine::calibrate(loaded.model, *loaded.tokenizer, wanted, progress.hooks());
  engine::save_profile(profile, path);
  log_info(cat("model     ", profile.name, ", ", profile.layers, " layers x ", profile.heads, " KV heads"));
  log_info(cat("measured  ", profile.made, " in ", seconds_text(seconds_since(start))));
  log_info(cat("profile   ", describe(profile)));
  log_info(cat("written   ", path));
  return 0;
}

}  // namespace kvmerger::cli
