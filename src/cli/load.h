// What every command does first: find and load the model, and make sure that results can be written.
#pragma once

#include <memory>
#include <string>

#include "cli/flags.h"
#include "engine/session.h"
#include "text/tokenizer.h"

namespace kvmerger::cli {

struct Loaded {
  std::shared_ptr<const model::Model> model;
  std::unique_ptr<text::Tokenizer> tokenizer;
  double seconds = 0.0;
};

// path empty: the default model. Throws Error saying how to get it when it is not there.
Loaded load_model(const std::string& path, model::WeightLayout layout);
std::string default_model_path();

// Throws Error when a file cannot be written at path; leaves nothing behind. Empty: nothing to check.
void check_writable(const std::string& path, const std::string& flag);
// Writes a file and says so; throws Error when it cannot.
void write_file(const std::string& path, const std::string& text);

}  // namespace kvmerger::cli
