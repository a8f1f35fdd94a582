#include "stories260k.h"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "core/error.h"
#include "gguf_writer.h"

#ifndef KVMERGER_SOURCE_DIR
#define KVMERGER_SOURCE_DIR "."
#endif

namespace kvmerger::test {
namespace {

constexpr uint32_t kUnknown = 0, kBos = 1, kEos = 2, kFirstByte = 3, kBytes = 256;

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path) {
    std::ifstream file(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
  }
  bool empty() const { return bytes_.empty(); }

  std::string text(size_t size) {
    if (size > bytes_.size() - place_) throw Error(cat(path_, " is too short; fetch it again"));
    place_ += size;
    return bytes_.substr(place_ - size, size);
  }
  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, text(sizeof value).data(), sizeof value);
    return value;
  }
  std::vector<float> floats(size_t count) {
    const std::string raw = text(count * sizeof(float));
    std::vector<float> values(count);
    std::memcpy(values.data(), raw.data(), raw.size());
    return values;
  }

 private:
  std::string path_, bytes_;
  size_t place_ = 0;
};

struct Sizes {  // the head of the file
  int32_t embedding, feed_forward, layers, heads, kv_heads, vocabulary, context;
};

// llama2.c keeps one kind of weight of all layers together; GGUF wants a tensor for each layer.
void add_layers(GgufWriter& writer, Reader& reader, const Sizes& sizes, const std::string& name, int64_t in,
                int64_t out) {
  for (int32_t layer = 0; layer < sizes.layers; ++layer) {
    writer.add(cat("blk.", layer, ".", name, ".weight"), in, out, GGML_TYPE_F32,
               reader.floats(static_cast<size_t>(in * out)));
  }
}

// The query and key matrices need no permutation: both formats rotate neighbours (2i, 2i + 1).
void add_weights(GgufWriter& writer, Reader& reader, const Sizes& sizes) {
  const int64_t embedding = sizes.embedding, hidden = sizes.feed_forward, vocabulary = sizes.vocabulary;
  const int64_t kv = embedding / sizes.heads * sizes.kv_heads;
  const auto layers = [&](const char* name, int64_t in, int64_t out) {
    add_layers(writer, reader, sizes, name, in, out);
  };
  writer.add("token_embd.weight", embedding, vocabulary, GGML_TYPE_F32,
             reader.floats(static_cast<size_t>(embedding * vocabulary)));
  layers("attn_norm", embedding, 1);
  layers("attn_q", embedding, embedding);
  layers("attn_k", embedding, kv);
  layers("attn_v", embedding, kv);
  layers("attn_output", embedding, embedding);
  layers("ffn_norm", embedding, 1);
  layers("ffn_gate", embedding, hidden);
  layers("ffn_down", hidden, embedding);
  layers("ffn_up", embedding, hidden);
  writer.add("output_norm.weight", embedding, 1, GGML_TYPE_F32, reader.floats(static_cast<size_t>(embedding)));
}

void set_sizes(GgufWriter& writer, const Sizes& sizes) {
  const std::pair<const char*, int32_t> numbers[] = {
      {".embedding_length", sizes.embedding}, {".feed_forward_length", sizes.feed_forward},
      {".block_count", sizes.layers},         {".attention.head_count", sizes.heads},
      {".vocab_size", sizes.vocabulary},      {".attention.head_count_kv", sizes.kv_heads},
      {".context_length", sizes.context},     {".rope.dimension_count", sizes.embedding / sizes.heads},
  };
  for (const auto& [key, value] : numbers) writer.set(key, static_cast<uint32_t>(value));
  writer.set(".rope.freq_base", 10000.0F);
  writer.set(".attention.layer_norm_rms_epsilon", 1e-5F);
}

// llama2.c writes SentencePiece's mark for a space as a space, and its own names for the special tokens.
std::string sentence_piece(uint32_t token, const std::string& text) {
  constexpr std::array<const char*, 3> kSpecial = {"<unk>", "<s>", "</s>"};
  if (token <= kEos) return kSpecial[token];
  if (token < kFirstByte + kBytes) return text;
  std::string piece;
  for (const char letter : text) piece += letter == ' ' ? "\xE2\x96\x81" : std::string(1, letter);
  return piece;
}

int32_t token_type(uint32_t token) {
  enum { kNormal = 1, kUnknownType = 2, kControl = 3, kByte = 6 };  // GGUF's numbers
  if (token == kUnknown) return kUnknownType;
  if (token <= kEos) return kControl;
  return token < kFirstByte + kBytes ? kByte : kNormal;
}

void set_vocabulary(GgufWriter& writer, Reader& reader, int32_t size) {
  std::vector<std::string> pieces;
  std::vector<float> scores;
  std::vector<int32_t> types;
  reader.number<int32_t>();  // the longest piece
  for (uint32_t token = 0; token < static_cast<uint32_t>(size); ++token) {
    scores.push_back(reader.number<float>());
    pieces.push_back(sentence_piece(token, reader.text(reader.number<uint32_t>())));
    types.push_back(token_type(token));
  }
  writer.set("tokenizer.ggml.model", "llama");
  writer.set("tokenizer.ggml.tokens", pieces);
  writer.set("tokenizer.ggml.scores", scores);
  writer.set("tokenizer.ggml.token_type", types);
  writer.set("tokenizer.ggml.unknown_token_id", kUnknown);
  writer.set("tokenizer.ggml.bos_token_id", kBos);
  writer.set("tokenizer.ggml.eos_token_id", kEos);
  writer.set("tokenizer.ggml.add_bos_token", true);
  writer.set("tokenizer.ggml.add_space_prefix", true);
}

std::unique_ptr<MemoryFile> convert() {
  Reader model(data_file("stories260k/stories260K.bin")), vocabulary(data_file("stories260k/tok512.bin"));
  if (model.empty() || vocabulary.empty()) return nullptr;
  const auto sizes = model.number<Sizes>();
  GgufWriter writer("llama");
  set_sizes(writer, sizes);
  set_vocabulary(writer, vocabulary, sizes.vocabulary);
  add_weights(writer, model, sizes);
  auto file = std::make_unique<MemoryFile>();
  writer.write(*file);
  return file;
}

}  // namespace

std::string data_file(const std::string& name) {
  const char* folder = std::getenv("KVMERGER_DATA");
  return (folder != nullptr ? std::string(folder) : KVMERGER_SOURCE_DIR "/../shared/data") + "/" + name;
}

const std::string& stories260k() {
  static const std::unique_ptr<MemoryFile> file = convert();
  static const std::string none;
  return file ? file->path() : none;
}

}  // namespace kvmerger::test
