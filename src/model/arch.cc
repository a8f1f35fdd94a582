// The table of architectures. A new one that is a mapping of these features is one row here.
#include "model/config.h"

namespace kvmerger::model {

std::span<const Arch> archs() {
  static constexpr Arch kArchs[] = {
      {"llama", "Llama 2 and 3, Mistral, SmolLM2, TinyLlama", false, false, true},
      {"qwen2", "Qwen 2 and 2.5", true, false, false},
      {"qwen3", "Qwen 3 (dense)", true, true, false},
  };
  return kArchs;
}

}  // namespace kvmerger::model
