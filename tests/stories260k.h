// stories260K, karpathy's model of 264,128 weights, as a GGUF file in memory: made from llama2.c's own files.
#pragma once

#include <string>

namespace kvmerger::test {

// A file of the evaluation data: below $KVMERGER_DATA, or beside the source tree in shared/data.
std::string data_file(const std::string& name);

// The model's path; "" when the data are not there (a test then says so and passes). Throws Error when they are
// damaged.
const std::string& stories260k();

}  // namespace kvmerger::test
