// Text to tokens and back, and chat templates: libllama's vocabulary, loaded without weights.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kvmerger::text {

using Token = int32_t;

struct Message {
  std::string role, content;  // role: system, user, assistant
};

class Tokenizer {
 public:
  explicit Tokenizer(const std::string& model_path);  // throws Error when the file has no usable vocabulary
  ~Tokenizer();

  uint32_t size() const;
  // special: add BOS/EOS as the model wants; parse: text like <|im_end|> becomes the special token (for templates,
  // never for a user's document). Any bytes are accepted.
  std::vector<Token> encode(std::string_view text, bool special, bool parse) const;
  // The bytes of one token; special tokens only when asked for. May be part of a UTF-8 sequence. Throws Error on a
  // token that is not in the vocabulary.
  std::string piece(Token token, bool special) const;
  std::string decode(const std::vector<Token>& tokens, bool special) const;  // the pieces, one after the other

  Token bos() const;  // -1 when the model has none
  bool adds_bos() const;
  bool ends_generation(Token token) const;  // end of text, end of turn
  std::vector<Token> suppressed() const;    // tokens that the file says must never be generated; mostly none

  bool has_chat_template() const;
  std::string chat_template() const;  // the source, "" when the file has none
  // Renders messages by the file's Jinja template; reply: end with the opening of the assistant's turn. A BOS that
  // encode() adds is left out. Throws Error when there is no template or it cannot be applied.
  std::string render(const std::vector<Message>& messages, bool reply) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvmerger::text
