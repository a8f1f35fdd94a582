// Texts from outside: documents, prompts. What reaches the model is valid UTF-8 without NUL bytes.
#pragma once

#include <string>

namespace kvmerger::cli {

// The text of a file, "-" for stdin, less a byte order mark and one line break at the end (as llama.cpp's -f). Throws
// Error when it cannot be read, is a folder, empty, longer than 1 GiB or not text. Invalid UTF-8 is replaced, with a
// warning that says how often.
std::string read_document(const std::string& path);
// A text given on the command line; with escapes: \n, \t, \r, \", \', \\ and \xHH are what they are in C.
std::string given_text(const std::string& text, bool escapes, const std::string& flag);
std::string unescape(const std::string& text);

}  // namespace kvmerger::cli
