// One text in a cache: the border between the engine and everyone (commands, evaluation, server). Engine thread only.
// Owns the store and the graphs; decides neither what to compact nor when.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/attention_ragged.h"
#include "engine/compactor.h"
#include "engine/reference_queries.h"
#include "kernels/page.h"
#include "kv/store.h"
#include "model/graph.h"
#include "model/model.h"
#include "policy/policy.h"

namespace kvmerger::engine {

using Token = int32_t;

// Bytes of the cache per token: K, V, position, bias and mass in every layer and head.
size_t cache_bytes_per_token(const model::DecoderConfig& config, kernels::RowType key, kernels::RowType value);

struct SessionOptions {
  uint32_t context = 0;  // most tokens the session may hold; 0: what the model was trained for
  kernels::RowType key_type = kernels::RowType::kF16, value_type = kernels::RowType::kF16;
  uint32_t threads = 0;  // 0: all of the machine's cores
  uint32_t batch = 512;  // tokens of one graph run while reading a prompt
  policy::Needs needs;   // statistics to keep per row
  // Words that ask the model to repeat the text, read before each chunk of a reconstruction pass (engine/prompt.h).
  std::vector<Token> repeat_prompt;
};

// Thrown when `cancelled` answered true. The session is then as after the last whole batch, but for statistics: they
// may have counted some of the batch that was cut off.
struct Interrupted : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};

struct RunHooks {
  std::function<void(uint32_t done, uint32_t total)> progress;  // after every batch
  std::function<bool()> cancelled;                              // asked often, also inside a batch; must not throw
};

class Session {
 public:
  Session(std::shared_ptr<const model::Model> model, const SessionOptions& options);
  ~Session();

  const model::Model& model() const { return *model_; }
  uint32_t context() const { return options_.context; }
  uint32_t threads() const { return options_.threads; }
  uint32_t batch() const { return options_.batch; }
  uint32_t heads() const { return store_.shape().layers * store_.shape().heads; }  // KV heads of all layers
  kernels::RowType key_type() const { return options_.key_type; }
  kernels::RowType value_type() const { return options_.value_type; }
  const std::vector<Token>& tokens() const {
    return tokens_;
  }  // all seen, in order; the next one's position is their number

  // Reads tokens behind those seen. record: keep the statistics of options.needs for them; the window is over the last
  // of these tokens. Throws Error when they do not fit the context, are not in the vocabulary or memory does not
  // suffice (the session is then as after the last whole batch), Interrupted when cancelled.
  void extend(std::span<const Token> tokens, bool record = false, const RunHooks& hooks = {});
  std::span<const float> logits() const { return logits_; }  // [vocabulary] behind the last token; empty: not known
  // As extend, and gives the logits behind every token: sink(index into tokens, [vocabulary]).
  void score(std::span<const Token> tokens, const std::function<void(uint32_t, std::span<const float>)>& sink,
             const RunHooks& hooks = {});

  // Makes the session hold exactly these tokens (at least one), with what it has where it can, and know the logits
  // behind them. Throws as extend does.
  struct Synced {
    uint32_t reused, evaluated;
    bool rebuilt;  // the cache had to be dropped, since compaction had changed rows that no longer fit
  };
  Synced sync(std::span<const Token> tokens, const RunHooks& hooks = {});

  // A copy that goes on by itself: rows with their statistics, tokens, logits, reference queries. Throws Error when
  // memory does not suffice.
  std::unique_ptr<Session> fork() const;
  // Drops what was read behind the first `count` tokens. Throws Error when the last compaction was behind them.
  void rewind(uint32_t count);

  // Throws Error as Compactor::run does, Interrupted when cancelled in a reconstruction pass; the session can be used
  // on.
  CompactionReport compact(const Compactor& compactor, const RunHooks& hooks = {});
  // The errors that compact would predict, [layers * KV heads], without changing anything; empty without reference
  // queries.
  std::vector<double> predict(const Compactor& compactor);
  // Of one KV head: its rows' keys, and the plan that compact would make of them; nothing changes.
  struct HeadTrace {
    std::vector<float> keys;  // [rows, head_dim], as the cache holds them
    uint32_t head_dim = 0;
    kv::HeadPlan plan;
  };
  HeadTrace trace(const Compactor& compactor, uint32_t layer, uint32_t head);
  // Rows beyond what the compactor's budget allows for the text so far; 0 without a budget.
  uint64_t rows_over(const Compactor& compactor) const;
  // KVzip's pass: has the text read since the last compaction repeated behind itself, chunk by chunk, and keeps the
  // largest attention that each row of a chunk gets while the chunk is repeated. The text itself does not change.
  // compact calls it when the compactor needs it. Throws as extend does.
  void reconstruct(const RunHooks& hooks = {});
  // Of one KV head, [rows]: what reconstruct found.
  std::vector<float> reconstruction(uint32_t layer, uint32_t head) const;

  kv::StoreBytes bytes() const { return store_.bytes(); }
  uint64_t rows() const { return store_.total_rows(); }
  size_t bytes_per_token() const;                            // of a full cache, without statistics
  size_t full_bytes() const;                                 // that bytes().used would be without any compaction
  size_t statistics_bytes() const;                           // the part of bytes().used that is statistics
  size_t queries_bytes() const { return queries_.bytes(); }  // of reference queries, beside bytes().used
  // What recording statistics has cost since the cache was begun: seconds of all threads together, divided by their
  // number.
  double statistics_seconds() const;
  // Makes the cache refuse to hold more than this, to see what happens then.
  void set_limit_for_test(size_t bytes) { store_.set_limit_for_test(bytes); }

  // Snapshot of tokens and cache. about: JSON text kept with it (Snapshot::about).
  void save(const std::string& path, const std::string& about) const;
  static std::string read_about(const std::string& path);  // Snapshot::about alone, cheap
  static std::unique_ptr<Session> load(const std::string& path, std::shared_ptr<const model::Model> model,
                                       SessionOptions options, std::string* about);

 private:
  model::DecoderGraph& graph(uint32_t tokens, model::Outputs outputs);
  void run(std::span<const Token> tokens, model::Outputs outputs, const RunHooks& hooks);
  void read(std::span<const Token> tokens, model::Outputs outputs, const RunHooks& hooks,
            const std::function<void(uint32_t)>& after_batch);
  // That `more` can be read behind the first `before` tokens.
  void check(size_t before, std::span<const Token> more) const;
  void attach();
  void set_recording(const RaggedAttention::Recording& recording);
  CompactionInput input(const Compactor& compactor) const;
  void reconstruct_chunk(uint32_t begin, uint32_t end, const RunHooks& hooks);

  std::shared_ptr<const model::Model> model_;
  SessionOptions options_;
  kv::Store store_;
  ReferenceQueries queries_;
  std::unique_ptr<RaggedAttention> attention_;
  model::Executor executor_;
  std::vector<std::unique_ptr<model::DecoderGraph>> graphs_;  // most recently used last
  bool recording_ = false;                                    // whether the graphs record statistics
  uint32_t compacted_ = 0;      // tokens seen at the last compaction: the cache cannot be cut below
  uint32_t reconstructed_ = 0;  // tokens that have been repeated
  std::vector<Token> tokens_;
  std::vector<float> logits_;
};

}  // namespace kvmerger::engine
