// The evaluation folder of the source: tasks, and the Python programs that score and show a run.
#pragma once

#include <string>
#include <vector>

namespace kvmerger::cli {

// $KVMERGER_EVALUATION, or the folder of the source that this program was made from.
std::string evaluation_folder();

// Becomes `python -m kvmerger_eval PROGRAM ARGUMENTS`, in an environment made by tools/eval_python. Throws Error when
// that cannot be.
[[noreturn]] void become_python(const std::string& program, const std::vector<std::string>& arguments);

}  // namespace kvmerger::cli
