// Which instruction set the kernels run on: chosen once, from what the build has, what the machine can run and
// KVMERGER_TARGET. Private to this folder.
#pragma once

#include <string>

// Highway reads these, so this header comes before Highway's. Targets without a fixed vector length are left out:
// the kernels keep vectors in arrays. All others are built, so that the reference can be chosen on every machine.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | HWY_SSSE3)
#define HWY_COMPILE_ALL_ATTAINABLE
// VNNI: one instruction multiplies pairs and adds. Highway 1.0 asks the compiler for avxvnni there, which machines with
// VNNI may lack: no code of ours may be a loop that compilers turn into such products by themselves.
#define HWY_WANT_AVX3_DL

namespace kvmerger::kernels {

// Every kernel calls this before it dispatches. Falls back to the best target when KVMERGER_TARGET names none;
// check_target() is there to refuse such a name.
void choose_target() noexcept;

// Switches all kernels to one of target_names(); throws Error when it is none. Not while kernels run.
void use_target_for_test(const std::string& name);

}  // namespace kvmerger::kernels
