#include "text/tokenizer.h"

#include <chat.h>
#include <llama-cpp.h>
#include <log.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <mutex>
#include <utility>

#include "core/error.h"
#include "core/log.h"

namespace kvmerger::text {
namespace {

// What libllama said on this thread: the line being written, and the first error since the last clear, which names the
// cause (the last one only says that loading failed).
struct LibraryTalk {
  std::string line, error;
};
thread_local LibraryTalk t_talk;

void end_line(bool is_error) {
  std::string line = std::exchange(t_talk.line, {});
  if (line.empty()) return;
  log_debug(line);
  if (is_error && t_talk.error.empty()) t_talk.error = std::move(line);
}

void hear(ggml_log_level level, const char* text, void*) noexcept {
  for (const char* letter = text; *letter != '\0'; ++letter) {
    if (*letter == '\n') {
      end_line(level == GGML_LOG_LEVEL_ERROR);
    } else {
      t_talk.line += *letter;
    }
  }
}

// libllama's talk goes to our debug log; llama-common's own logger, which writes from a thread, is shut up: what it
// would say of a failure comes to us as an exception.
void take_over_logging() {
  static std::once_flag once;
  std::call_once(once, [] {
    llama_log_set(hear, nullptr);
    common_log_set_verbosity_thold(-1);
  });
}

// libllama reports a missing file, a folder and a file without permission alike.
void check_readable(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  char byte;
  const bool readable = file != nullptr && (std::fread(&byte, 1, 1, file) == 1 || std::ferror(file) == 0);
  const int reason = errno;
  if (file != nullptr) std::fclose(file);
  if (!readable) throw Error(cat("cannot read the model file ", path, ": ", std::strerror(reason)));
}

llama_model_ptr load_vocabulary(const std::string& path) {
  take_over_logging();
  check_readable(path);
  llama_model_params params = llama_model_default_params();
  params.vocab_only = true;
  params.n_gpu_layers = 0;
  t_talk = {};
  llama_model_ptr model(llama_model_load_from_file(path.c_str(), params));
  if (!model) throw Error(cat(path, " has no usable vocabulary: ", t_talk.error, "; a complete GGUF model is needed"));
  if (llama_vocab_type(llama_model_get_vocab(model.get())) == LLAMA_VOCAB_TYPE_NONE) {
    throw Error(cat(path, " has no tokenizer; convert the model again with its tokenizer"));
  }
  return model;
}

// Why Jinja cannot read a template: common_chat_templates_init throws the exception's base class only, without the
// text.
std::string fault_of_template(const std::string& source) {
  try {
    const common_chat_template probe(source, "", "");
  } catch (const std::exception& error) {
    return error.what();
  }
  return "unknown fault";
}

common_chat_msg to_common(const Message& message) {
  common_chat_msg result;
  result.role = message.role;
  result.content = message.content;
  return result;
}

}  // namespace

struct Tokenizer::Impl {
  std::string path;
  llama_model_ptr model;
  const llama_vocab* vocab = nullptr;
  std::string chat_template;       // "" when the file has none
  common_chat_templates_ptr chat;  // null when there is no template or Jinja cannot read it
};

Tokenizer::Tokenizer(const std::string& model_path) : impl_(std::make_unique<Impl>()) {
  impl_->path = model_path;
  impl_->model = load_vocabulary(model_path);
  impl_->vocab = llama_model_get_vocab(impl_->model.get());
  const char* source = llama_model_chat_template(impl_->model.get(), nullptr);
  if (source == nullptr) return;
  impl_->chat_template = source;
  try {
    impl_->chat = common_chat_templates_init(impl_->model.get(), "");
  } catch (const std::exception&) {
    log_debug("the chat template cannot be read");  // said in full by render(); plain text needs no template
  }
}

Tokenizer::~Tokenizer() = default;

uint32_t Tokenizer::size() const { return static_cast<uint32_t>(llama_vocab_n_tokens(impl_->vocab)); }

std::vector<Token> Tokenizer::encode(std::string_view text, bool special, bool parse) const {
  if (text.size() > INT32_MAX) {
    throw Error(cat("a text of ", text.size(), " bytes cannot be tokenized; the limit is ", INT32_MAX));
  }
  // Rarely more tokens than bytes (and BOS, EOS); when there are, a negative count says how many.
  std::vector<Token> tokens(std::min<size_t>(text.size() + 2, INT32_MAX));
  const auto tokenize = [&] {
    return llama_tokenize(impl_->vocab, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                          static_cast<int32_t>(tokens.size()), special, parse);
  };
  int32_t count = tokenize();
  if (count == INT32_MIN) throw Error(cat("a text of ", text.size(), " bytes has too many tokens"));
  if (count < 0) {
    tokens.resize(static_cast<size_t>(-count));
    count = tokenize();
  }
  return {tokens.begin(), tokens.begin() + count};
}

std::string Tokenizer::piece(Token token, bool special) const {
  if (token < 0 || static_cast<uint32_t>(token) >= size()) {
    throw Error(cat("token ", token, " is not in the vocabulary of ", size(), " tokens of ", impl_->path));
  }
  std::string bytes(64, '\0');
  const auto fill = [&] {
    return llama_token_to_piece(impl_->vocab, token, bytes.data(), static_cast<int32_t>(bytes.size()), 0, special);
  };
  int32_t length = fill();
  if (length < 0) {
    bytes.resize(static_cast<size_t>(-length));
    length = fill();
  }
  bytes.resize(static_cast<size_t>(length));
  return bytes;
}

std::string Tokenizer::decode(const std::vector<Token>& tokens, bool special) const {
  std::string text;
  for (const Token token : tokens) text += piece(token, special);
  return text;
}

Token Tokenizer::bos() const { return llama_vocab_bos(impl_->vocab); }
bool Tokenizer::adds_bos() const { return llama_vocab_get_add_bos(impl_->vocab); }
bool Tokenizer::ends_generation(Token token) const { return llama_vocab_is_eog(impl_->vocab, token); }

std::vector<Token> Tokenizer::suppressed() const {
  int32_t count = 0;
  const llama_token* tokens = llama_vocab_get_suppress_tokens(impl_->vocab, &count);
  return {tokens, tokens + count};
}

bool Tokenizer::has_chat_template() const { return !impl_->chat_template.empty(); }
std::string Tokenizer::chat_template() const { return impl_->chat_template; }

std::string Tokenizer::render(const std::vector<Message>& messages, bool reply) const {
  const std::string refusal = cat("the chat template of ", impl_->path, " cannot be applied: ");
  if (!has_chat_template()) throw Error(cat(impl_->path, " has no chat template; give it plain text"));
  if (!impl_->chat) throw Error(cat(refusal, fault_of_template(impl_->chat_template)));
  common_chat_templates_inputs inputs;
  for (const Message& message : messages) inputs.messages.push_back(to_common(message));
  inputs.add_generation_prompt = reply;
  inputs.use_jinja = true;
  inputs.force_pure_content = true;  // the template as it stands; no analysis of how it would write tool calls
  try {
    return common_chat_templates_apply(impl_->chat.get(), inputs).prompt;
  } catch (const std::exception& error) {
    throw Error(cat(refusal, error.what()));
  }
}

}  // namespace kvmerger::text
