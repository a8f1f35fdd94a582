// A toy model that reads and writes text: every byte is a token, and it has a chat template. What it says is noise.
#pragma once

#include <cstdint>
#include <string>

#include "toy_model.h"

namespace kvmerger::test {

inline constexpr uint32_t kTalkingLayers = 3, kTalkingHeads = 2;  // KV heads

// A file made once and used by all tests of a program. chat: with a chat template.
const std::string& talking_model(bool chat = true);
// Tokens of a prompt in this model's template, with the given bytes of user's text.
inline constexpr uint32_t kBeforeText = 2 + 5;           // <s> <|im_start|> user\n
inline constexpr uint32_t kBehindText = 1 + 1 + 1 + 10;  // <|im_end|> \n <|im_start|> assistant\n

}  // namespace kvmerger::test
