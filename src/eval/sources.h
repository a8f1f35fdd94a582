// Samples from the benchmarks' own files: one reader per format.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/sample.h"
#include "eval/task_file.h"

namespace kvmerger::eval {

// The template filled; context and fields as they are.
Sample make_sample(const TaskFile& task, std::string id, const std::string& context, const Fields& fields);

// The first of the task's files that is below the folder. Throws Error naming all that were looked for when none is.
std::string find_source(const TaskFile& task, const std::string& folder);

// The first `limit` samples (0: all) of a file in the task's format. Throws Error naming file, line and what is missing
// or wrong; also when there is no sample.
std::vector<Sample> read_source(const TaskFile& task, const std::string& path, uint32_t limit);

}  // namespace kvmerger::eval
