#include "talking_model.h"

#include <cstdio>
#include <vector>

namespace kvmerger::test {
namespace {

enum : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };  // GGUF's types of tokens

// The turns as SmolLM2 writes them.
constexpr const char* kTemplate =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

// 0 unknown, 1 begin, 2 end of text, 3 begin and 4 end of a turn, 5 a space, then the bytes.
void set_vocabulary(GgufWriter& writer, bool chat) {
  std::vector<std::string> pieces{"<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "\xE2\x96\x81"};
  std::vector<int32_t> types{kUnknown, kControl, kControl, kControl, kControl, kNormal};
  for (int byte = 0; byte < 256; ++byte) {
    char piece[8];
    std::snprintf(piece, sizeof piece, "<0x%02X>", static_cast<unsigned>(byte));
    pieces.emplace_back(piece);
    types.push_back(kByte);
  }
  writer.set("tokenizer.ggml.model", "llama");
  writer.set("tokenizer.ggml.tokens", pieces);
  writer.set("tokenizer.ggml.scores", std::vector<float>(pieces.size(), 0));
  writer.set("tokenizer.ggml.token_type", types);
  writer.set("tokenizer.ggml.unknown_token_id", 0U);
  writer.set("tokenizer.ggml.bos_token_id", 1U);
  writer.set("tokenizer.ggml.eos_token_id", 2U);
  writer.set("tokenizer.ggml.eot_token_id", 4U);
  writer.set("tokenizer.ggml.add_bos_token", true);
  writer.set("tokenizer.ggml.add_space_prefix", false);
  if (chat) writer.set("tokenizer.chat_template", kTemplate);
  writer.set("general.name", "Toy");
  writer.set("general.license", "none");
}

ToyParams params(bool chat) {
  ToyParams params;
  params.n_layer = kTalkingLayers;
  params.n_head_kv = kTalkingHeads;
  params.n_vocab = 6 + 256;
  params.vocabulary = [chat](GgufWriter& writer) { set_vocabulary(writer, chat); };
  return params;
}

}  // namespace

const std::string& talking_model(bool chat) {
  static const ToyModel with(params(true)), without(params(false));
  return chat ? with.path() : without.path();
}

}  // namespace kvmerger::test
