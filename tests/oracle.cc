#include "oracle.h"

#include <llama-cpp.h>

#include <algorithm>
#include <memory>

#include "core/error.h"

namespace kvmerger::test {
namespace {

// libllama's log callback is one for the process; whoever set another gets it back.
class Silence {
 public:
  Silence() {
    llama_log_get(&callback_, &data_);
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;
  ~Silence() { llama_log_set(callback_, data_); }

 private:
  ggml_log_callback callback_ = nullptr;
  void* data_ = nullptr;
};

class Run {
 public:
  Run(const std::string& path, size_t tokens, KvType type, uint32_t threads) : path_(path) {
    model_.reset(llama_model_load_from_file(path.c_str(), llama_model_default_params()));
    if (!model_) throw Error(cat("libllama cannot load ", path));
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = static_cast<uint32_t>(std::max<size_t>(tokens, 1));
    params.n_threads = params.n_threads_batch = static_cast<int32_t>(threads);
    params.type_k = params.type_v = type == KvType::kF32 ? GGML_TYPE_F32 : GGML_TYPE_F16;
    // In front of flash attention libllama's graph turns f32 keys and values into f16, so f32 needs the plain one.
    if (type == KvType::kF32) params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    context_.reset(llama_init_from_model(model_.get(), params));
    if (!context_) throw Error(cat("libllama cannot run ", path));
    vocabulary_ = static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model_.get())));
  }

  // Decodes the tokens behind the ones decoded before and appends their logits to `logits`.
  void decode(std::span<const int32_t> tokens, std::vector<float>& logits) {
    llama_batch batch = llama_batch_init(static_cast<int32_t>(tokens.size()), 0, 1);
    const std::unique_ptr<llama_batch, void (*)(llama_batch*)> owner(&batch, [](auto* it) { llama_batch_free(*it); });
    for (const int32_t token : tokens) {
      const int32_t place = batch.n_tokens++;
      batch.token[place] = token;
      batch.pos[place] = position_++;
      batch.n_seq_id[place] = 1;
      batch.seq_id[place][0] = 0;
      batch.logits[place] = 1;
    }
    if (llama_decode(context_.get(), batch) != 0) throw Error(cat("libllama cannot decode with ", path_));
    for (int32_t place = 0; place < batch.n_tokens; ++place) {
      const float* row = llama_get_logits_ith(context_.get(), place);
      logits.insert(logits.end(), row, row + vocabulary_);
    }
  }

 private:
  const Silence silence_;
  std::string path_;
  llama_model_ptr model_;
  llama_context_ptr context_;
  size_t vocabulary_ = 0;
  int32_t position_ = 0;
};

}  // namespace

std::vector<float> llama_logits(const std::string& path, std::span<const int32_t> tokens, KvType type,
                                bool token_by_token, uint32_t threads) {
  Run run(path, tokens.size(), type, threads);
  std::vector<float> logits;
  const size_t step = token_by_token ? 1 : tokens.size();
  for (size_t begin = 0; begin < tokens.size(); begin += step) run.decode(tokens.subspan(begin, step), logits);
  return logits;
}

std::vector<int32_t> llama_greedy(const std::string& path, std::span<const int32_t> tokens, uint32_t count, KvType type,
                                  uint32_t threads) {
  Run run(path, tokens.size() + count, type, threads);
  std::vector<float> logits;
  for (const int32_t token : tokens) {
    logits.clear();
    run.decode({&token, 1}, logits);
  }
  std::vector<int32_t> chosen;
  while (chosen.size() < count) {
    chosen.push_back(static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    logits.clear();
    run.decode({&chosen.back(), 1}, logits);
  }
  return chosen;
}

}  // namespace kvmerger::test
