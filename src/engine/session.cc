#include "engine/session.h"

#include <algorithm>
#include <thread>

#include "core/clock.h"
#include "core/error.h"
#include "engine/attention_ragged.h"
#include "kv/snapshot.h"

namespace kvmerger::engine {
namespace {

constexpr size_t kGraphs = 3;  // kept for reuse: decoding, the full batch, one more

SessionOptions resolve(SessionOptions options, const model::DecoderConfig& config) {
  if (options.context == 0) options.context = config.context;
  if (options.threads == 0) options.threads = std::max(1U, std::thread::hardware_concurrency());
  KVM_CHECK(options.context <= INT32_MAX && options.batch > 0);  // positions are int32
  return options;
}

kv::StoreShape store_shape(const model::DecoderConfig& config, const SessionOptions& options) {
  return {.layers = config.layers,
          .heads = config.kv_heads,
          .head_dim = config.head_dim,
          .key_type = options.key_type,
          .value_type = options.value_type,
          .stats = {options.needs.attn_sum, options.needs.window > 0, options.needs.reconstruction}};
}

ReferenceQueries reference_queries(const model::DecoderConfig& config, const SessionOptions& options) {
  return {config, options.needs.queries};
}

}  // namespace

size_t cache_bytes_per_token(const model::DecoderConfig& config, kernels::RowType key, kernels::RowType value) {
  const kv::StoreShape shape{config.layers, config.kv_heads, config.head_dim, key, value, {}};
  return kv::page_bytes(shape) / kernels::kPageRows * shape.layers * shape.heads;
}

Session::Session(std::shared_ptr<const model::Model> model, const SessionOptions& options)
    : model_(std::move(model)),
      options_(resolve(options, model_->config())),
      store_(store_shape(model_->config(), options_)),
      queries_(reference_queries(model_->config(), options_)),
      executor_(options_.threads) {
  attach();
}

Session::~Session() = default;

void Session::attach() {
  graphs_.clear();
  attention_ = std::make_unique<RaggedAttention>(model_->config(), store_, queries_, options_.threads);
}

size_t Session::bytes_per_token() const {
  return cache_bytes_per_token(model_->config(), options_.key_type, options_.value_type);
}

size_t Session::full_bytes() const {
  const size_t pages = (tokens_.size() + kernels::kPageRows - 1) / kernels::kPageRows;
  return pages * heads() * kv::page_bytes(store_.shape());
}

size_t Session::statistics_bytes() const {
  const kv::StoreShape& shape = store_.shape();
  kv::StoreShape plain = shape;
  std::fill(std::begin(plain.stats), std::end(plain.stats), false);
  const size_t page = kv::page_bytes(shape);
  return store_.bytes().used / page * (page - kv::page_bytes(plain));
}

double Session::statistics_seconds() const { return attention_->statistics_seconds(); }

void Session::check(size_t before, std::span<const Token> more) const {
  const size_t total = before + more.size();
  if (total > options_.context) {
    throw Error(cat("the text is longer than the context: ", total, " tokens, but the context holds ", options_.context,
                    "; cut it with --truncate middle|left, or raise -c beyond what the model was trained for (",
                    model_->config().context, ")"));
  }
  const uint32_t vocabulary = model_->config().vocabulary;
  for (const Token token : more) {
    if (token < 0 || static_cast<uint32_t>(token) >= vocabulary) {
      throw Error(cat("token ", token, " is not among the ", vocabulary, " that the model has weights for; the file's ",
                      "tokenizer and weights do not belong together"));
    }
  }
}

model::DecoderGraph& Session::graph(uint32_t tokens, model::Outputs outputs) {
  const auto fits = [&](const auto& graph) { return graph->tokens() == tokens && graph->outputs() == outputs; };
  auto found = std::find_if(graphs_.begin(), graphs_.end(), fits);
  if (found == graphs_.end()) {
    if (graphs_.size() == kGraphs) graphs_.erase(graphs_.begin());
    graphs_.push_back(std::make_unique<model::DecoderGraph>(*model_, *attention_, tokens, outputs));
  } else {
    std::rotate(found, found + 1, graphs_.end());
  }
  return *graphs_.back();
}

void Session::run(std::span<const Token> tokens, model::Outputs outputs, const RunHooks& hooks) {
  const auto count = static_cast<uint32_t>(tokens.size());
  const auto first_pos = static_cast<int32_t>(tokens_.size());
  try {
    attention_->begin_run(count, first_pos);
    if (!graph(count, outputs).run(executor_, tokens, first_pos, hooks.cancelled)) throw Interrupted();
  } catch (...) {  // some layers may have the rows already
    store_.truncate(first_pos);
    store_.shrink();
    queries_.truncate(first_pos);
    throw;
  }
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

void Session::read(std::span<const Token> tokens, model::Outputs outputs, const RunHooks& hooks,
                   const std::function<void(uint32_t)>& after_batch) {
  check(tokens_.size(), tokens);
  logits_.clear();
  const uint32_t total = static_cast<uint32_t>(tokens.size());
  for (uint32_t done = 0; done < total;) {
    const uint32_t count = std::min(options_.batch, total - done);
    const bool skip = outputs == model::Outputs::kLast && done + count < total;
    run(tokens.subspan(done, count), skip ? model::Outputs::kNone : outputs, hooks);
    if (after_batch) after_batch(done);
    done += count;
    if (hooks.progress) hooks.progress(done, total);
  }
}

void Session::set_recording(const RaggedAttention::Recording& recording) {
  if (recording.any_stat() != recording_) graphs_.clear();  // graphs that record differ from those that do not
  recording_ = recording.any_stat();
  attention_->record(recording);
}

void Session::extend(std::span<const Token> tokens, bool record, const RunHooks& hooks) {
  if (tokens.empty()) return;
  const policy::Needs& needs = options_.needs;
  const size_t end = tokens_.size() + tokens.size();
  RaggedAttention::Recording recording;
  if (record) {
    recording.stats[static_cast<size_t>(kv::Stat::kSum)] = needs.attn_sum;
    recording.stats[static_cast<size_t>(kv::Stat::kWindow)] = needs.window > 0;
    recording.window_from = static_cast<int32_t>(end - std::min<size_t>(end, needs.window));
    recording.queries = needs.queries > 0;
    // While generating, the window is over all tokens since the last compaction.
    if (needs.window > 0 && tokens.size() > 1) store_.clear_stat(kv::Stat::kWindow);
  }
  set_recording(recording);
  read(tokens, model::Outputs::kLast, hooks, nullptr);
  const std::span<const float> last = graphs_.back()->logits();
  logits_.assign(last.begin(), last.end());
}

void Session::score(std::span<const Token> tokens, const std::function<void(uint32_t, std::span<const float>)>& sink,
                    const RunHooks& hooks) {
  const size_t vocabulary = model_->config().vocabulary;
  set_recording({});
  read(tokens, model::Outputs::kAll, hooks, [&](uint32_t first) {
    const std::span<const float> all = graphs_.back()->logits();
    for (uint32_t row = 0; row < all.size() / vocabulary; ++row)
      sink(first + row, all.subspan(row * vocabulary, vocabulary));
    logits_.assign(all.end() - static_cast<std::ptrdiff_t>(vocabulary), all.end());
  });
}

Session::Synced Session::sync(std::span<const Token> tokens, const RunHooks& hooks) {
  KVM_CHECK(!tokens.empty());
  check(0, tokens);
  size_t common = 0;
  while (common < std::min(tokens.size(), tokens_.size()) && tokens[common] == tokens_[common]) ++common;
  if (tokens.size() == common && tokens_.size() == common && !logits_.empty()) {
    return {static_cast<uint32_t>(common), 0, false};
  }
  if (common == tokens.size()) --common;  // the last one is read again for its logits
  const bool rebuilt = common < compacted_;
  if (rebuilt) {
    store_ = kv::Store(store_.shape());
    queries_.truncate(0);
    compacted_ = reconstructed_ = 0;
    common = 0;
    attach();
  } else if (common < tokens_.size()) {
    store_.truncate(static_cast<int32_t>(common));
    queries_.truncate(static_cast<int32_t>(common));
    reconstructed_ = std::min(reconstructed_, static_cast<uint32_t>(common));
  }
  tokens_.resize(common);
  extend(tokens.subspan(common), false, hooks);
  return {static_cast<uint32_t>(common), static_cast<uint32_t>(tokens.size() - common), rebuilt};
}

std::unique_ptr<Session> Session::fork() const {
  auto copy = std::make_unique<Session>(model_, options_);
  copy->store_ = store_.copy();
  copy->queries_ = queries_;
  copy->attach();
  copy->compacted_ = compacted_;
  copy->reconstructed_ = reconstructed_;
  copy->tokens_ = tokens_;
  copy->logits_ = logits_;
  return copy;
}

void Session::rewind(uint32_t count) {
  KVM_CHECK(count <= tokens_.size());
  store_.truncate(static_cast<int32_t>(count));
  store_.shrink();
  queries_.truncate(static_cast<int32_t>(count));
  reconstructed_ = std::min(reconstructed_, count);
  tokens_.resize(count);
  logits_.clear();
}

void Session::reconstruct_chunk(uint32_t begin, uint32_t end, const RunHooks& hooks) {
  const auto seen = static_cast<uint32_t>(tokens_.size());
  std::vector<Token> repeated = options_.repeat_prompt;
  repeated.insert(repeated.end(), tokens_.begin() + begin, tokens_.begin() + end);
  RaggedAttention::Recording recording;
  recording.stats[static_cast<size_t>(kv::Stat::kMax)] = true;
  recording.rows_from_end = seen - begin;
  recording.rows_to_end = seen - end;
  set_recording(recording);
  run(repeated, model::Outputs::kNone, hooks);
  tokens_.resize(seen);
  store_.truncate(static_cast<int32_t>(seen));
}

void Session::reconstruct(const RunHooks& hooks) {
  KVM_CHECK(options_.needs.reconstruction);
  const auto seen = static_cast<uint32_t>(tokens_.size());
  const uint32_t first = std::max(reconstructed_, compacted_);
  for (uint32_t begin = first; begin < seen; begin = reconstructed_) {
    const uint32_t end = std::min(seen, begin + options_.batch);
    reconstruct_chunk(begin, end, hooks);
    reconstructed_ = end;
    if (hooks.progress) hooks.progress(end - first, seen - first);
  }
  store_.shrink();
}

std::vector<float> Session::reconstruction(uint32_t layer, uint32_t head) const {
  const kv::Store::LayerData data = store_.view(layer);
  const std::span<const float> scores = data.view.heads[head].attn_max;
  return {scores.begin(), scores.end()};
}

uint64_t Session::rows_over(const Compactor& compactor) const {
  const uint64_t allowed = compactor.allowed(store_.shape(), static_cast<uint32_t>(tokens_.size()));
  return rows() - std::min(rows(), allowed);
}

CompactionInput Session::input(const Compactor& compactor) const {
  const auto end = static_cast<uint32_t>(tokens_.size());
  const bool asked = compactor.active() && compactor.needs().queries > 0;
  return {end, asked ? queries_.replayed(*model_, static_cast<int32_t>(end), compactor.needs().queries) : QueryRows(),
          model_->config().group()};
}

std::vector<double> Session::predict(const Compactor& compactor) {
  return compactor.predict(store_, input(compactor), options_.threads);
}

Session::HeadTrace Session::trace(const Compactor& compactor, uint32_t layer, uint32_t head) {
  kv::LayerPlan plan = compactor.plan(store_, input(compactor), options_.threads, layer);
  const kv::Store::LayerData data = store_.view(layer);
  const kv::Rows& keys = data.view.heads.at(head).key;
  return {{keys.data, keys.data + size_t{keys.count} * keys.dim}, keys.dim, std::move(plan.at(head))};
}

CompactionReport Session::compact(const Compactor& compactor, const RunHooks& hooks) {
  const auto start = Clock::now();
  if (compactor.needs().reconstruction) reconstruct(hooks);
  const double reconstruction = seconds_since(start);
  // Also when it fails: some layers may have changed.
  if (compactor.active()) compacted_ = static_cast<uint32_t>(tokens_.size());
  CompactionReport report = compactor.run(store_, input(compactor), options_.threads);
  if (options_.needs.window > 0) store_.clear_stat(kv::Stat::kWindow);
  report.reconstruction_seconds = reconstruction;
  report.seconds += reconstruction;
  return report;
}

void Session::save(const std::string& path, const std::string& about) const {
  const model::ModelFacts& facts = model_->facts();
  kv::write_snapshot(path, {facts.fingerprint, facts.name, about, tokens_}, store_);
}

std::string Session::read_about(const std::string& path) { return kv::read_snapshot_info(path).about; }

std::unique_ptr<Session> Session::load(const std::string& path, std::shared_ptr<const model::Model> model,
                                       SessionOptions options, std::string* about) {
  kv::Snapshot snapshot = kv::read_snapshot(path, model->facts().fingerprint);
  const kv::StoreShape& shape = snapshot.store.shape();
  const model::DecoderConfig& config = model->config();
  if (shape.layers != config.layers || shape.heads != config.kv_heads || shape.head_dim != config.head_dim) {
    throw Error(cat("snapshot '", path, "' holds a cache of ", shape.layers, " layers x ", shape.heads, " heads x ",
                    shape.head_dim, ", but the model has ", config.layers, " x ", config.kv_heads, " x ",
                    config.head_dim, "; make it again with kvmerger compress"));
  }
  options.key_type = shape.key_type;
  options.value_type = shape.value_type;
  auto session = std::make_unique<Session>(std::move(model), options);
  session->store_ = std::move(snapshot.store);
  session->tokens_ = std::move(snapshot.info.tokens);
  session->compacted_ = static_cast<uint32_t>(session->tokens_.size());
  session->attach();
  session->check(session->tokens_.size(), {});
  if (about) *about = std::move(snapshot.info.about);
  return session;
}

}  // namespace kvmerger::engine
