// The one decoder graph, for a fixed number of tokens, and its execution on ggml's CPU backend.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

namespace kvmerger::model {

class AttentionPort;
class Model;

// Which positions get logits.
enum class Outputs : uint8_t { kNone, kLast, kAll };

// The threads and the work memory of graph runs. One per session; engine thread only.
class Executor {
 public:
  explicit Executor(uint32_t threads);
  ~Executor();
  uint32_t threads() const { return threads_; }

 private:
  friend class DecoderGraph;
  struct Impl;
  std::unique_ptr<Impl> impl_;
  uint32_t threads_;
};

class DecoderGraph {
 public:
  // Builds the graph once; it can run any number of times, at any position. Throws Error when memory does not suffice.
  DecoderGraph(const Model& model, AttentionPort& port, uint32_t tokens, Outputs outputs);
  ~DecoderGraph();

  uint32_t tokens() const { return tokens_; }
  Outputs outputs() const { return outputs_; }

  // Runs for tokens at positions first_pos, first_pos + 1, ... cancelled is asked between graph nodes; when it answers
  // true the run stops and run returns false (rows may have been appended to some layers only). Token ids must be
  // below the vocabulary's size.
  bool run(Executor& executor, std::span<const int32_t> tokens, int32_t first_pos,
           const std::function<bool()>& cancelled);
  // [outputs, vocabulary] of the last run.
  std::span<const float> logits() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  uint32_t tokens_;
  Outputs outputs_;
};

}  // namespace kvmerger::model
