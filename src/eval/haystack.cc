#include "eval/haystack.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "engine/calibration_text.h"
#include "eval/json_lines.h"
#include "text/stream.h"

namespace kvmerger::eval {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSpace = " \t\r\n";
constexpr std::string_view kEnds = ".!?", kQuotes = "\"')]_*";

// Whether a sentence ends before `at`, where white space begins.
bool ends_sentence(std::string_view text, size_t at) {
  while (at > 0 && kQuotes.find(text[at - 1]) != std::string_view::npos) --at;
  return at > 0 && kEnds.find(text[at - 1]) != std::string_view::npos;
}

std::string read_text(const std::string& path) {
  size_t replaced = 0;
  std::string text = text::valid_utf8(read_file(path), &replaced);
  if (text.find_first_not_of(kSpace) == std::string::npos) throw Error(cat("the text ", path, " is empty"));
  return text;
}

// In order; none where there is no such folder.
std::vector<fs::path> texts_in(const std::string& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".txt") paths.push_back(entry.path());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw Error(cat("cannot read the folder ", folder, ": ", error.message()));
  }
  std::ranges::sort(paths);
  return paths;
}

std::vector<std::string> read_texts(const std::string& file, const std::string& folder) {
  if (!file.empty()) return {read_text(file)};
  const std::vector<fs::path> paths = texts_in(folder);
  std::vector<std::string> texts;
  for (const fs::path& path : paths) texts.push_back(read_text(path.string()));
  if (!texts.empty()) return texts;
  const auto built_in = engine::calibration_texts();
  const auto longest = std::ranges::max_element(built_in, {}, &std::string_view::size);  // the novel
  return {std::string(*longest)};
}

}  // namespace

std::vector<std::string_view> split_sentences(std::string_view text) {
  std::vector<std::string_view> sentences;
  size_t begin = 0;
  for (size_t at = 0; (at = text.find_first_of(kSpace, at)) != std::string_view::npos;) {
    const size_t next = std::min(text.find_first_not_of(kSpace, at), text.size());
    if (ends_sentence(text, at)) {
      sentences.push_back(text.substr(begin, next - begin));
      begin = next;
    }
    at = next;
  }
  if (begin < text.size()) sentences.push_back(text.substr(begin));
  return sentences;
}

std::string hide(const std::vector<std::string_view>& pieces, const std::vector<Hidden>& hidden) {
  size_t bytes = 0;
  for (const std::string_view piece : pieces) bytes += piece.size();
  std::vector<const Hidden*> order;
  for (const Hidden& one : hidden) order.push_back(&one);
  std::ranges::stable_sort(order, {}, &Hidden::depth);
  std::string text;
  size_t before = 0;  // bytes of pieces
  auto next = order.begin();
  const auto put = [&](bool all) {
    for (; next != order.end() && (all || (*next)->depth * static_cast<double>(bytes) <= static_cast<double>(before));
         ++next) {
      text += (*next)->text;
    }
  };
  for (const std::string_view piece : pieces) {
    put(false);
    text += piece;
    before += piece.size();
  }
  put(true);
  return text;
}

Haystack::Haystack(std::vector<std::string> texts) : texts_(std::move(texts)) {
  KVM_CHECK(!texts_.empty());
  for (const std::string& text : texts_) sentences_.push_back(split_sentences(text));
}

std::vector<std::string_view> Haystack::sentences(size_t index, double place, uint32_t count) const {
  const std::vector<std::string_view>& all = sentences_[index % sentences_.size()];
  const auto first = static_cast<size_t>(place * static_cast<double>(all.size()));
  std::vector<std::string_view> chosen(count);
  for (uint32_t at = 0; at < count; ++at) chosen[at] = all[(first + at) % all.size()];
  return chosen;
}

Haystack read_haystack(const std::string& file, const std::string& folder) {
  return Haystack(read_texts(file, folder));
}

}  // namespace kvmerger::eval
