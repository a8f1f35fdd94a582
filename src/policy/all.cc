// The table of methods.
#include "core/table.h"
#include "policy/policy.h"
#include "policy/score_policy.h"

namespace kvmerger::policy {

std::unique_ptr<Policy> make_none();
std::unique_ptr<Policy> make_kvmerger();
std::unique_ptr<Policy> make_snapkv();
std::unique_ptr<Policy> make_cam();
std::unique_ptr<Policy> make_expected_attention();
std::unique_ptr<Policy> make_merge_or_evict();
std::unique_ptr<Policy> make_kvzip();
std::unique_ptr<Policy> make_tova();
std::unique_ptr<Policy> make_knorm();
std::unique_ptr<Policy> make_keydiff();
std::unique_ptr<Policy> make_look_m();
std::unique_ptr<Policy> make_d2o();
std::unique_ptr<Policy> make_lagkv();

namespace {

template <std::unique_ptr<ScorePolicy> (*kMake)()>
std::unique_ptr<Policy> base() {
  return kMake();
}

constexpr Entry kPolicies[] = {
    {"none", "the full cache: every row stays", "-", make_none},
    {"kvmerger", "merges runs of neighbours with similar keys around the most attended", "arXiv 2407.08454",
     make_kvmerger},
    {"h2o", "keeps the newest and the most attended rows", "arXiv 2306.14048", base<make_h2o>},
    {"cam", "drops rows as H2O or StreamingLLM and adds their values to the rows that follow",
     "CaM, ICML 2024 (openreview LCTmppB165)", make_cam},
    {"streaming_llm", "keeps the first and the newest rows", "arXiv 2309.17453", base<make_streaming_llm>},
    {"snapkv", "keeps the rows, and their neighbours, that the last queries of the prompt look at", "arXiv 2404.14469",
     make_snapkv},
    {"expected_attention", "keeps the rows that queries of the text, replayed behind it, look at, by length of value",
     "arXiv 2510.00636", make_expected_attention},
    {"kvzip", "keeps the rows that the model looks at while it repeats the text", "arXiv 2505.23416", make_kvzip},
    {"tova", "keeps the rows that the last query looks at, on average over the heads of a layer", "arXiv 2401.06104",
     make_tova},
    {"knorm", "keeps the rows with the shortest keys", "arXiv 2406.11430", make_knorm},
    {"keydiff", "keeps the rows whose keys point away from the common direction", "arXiv 2504.15364", make_keydiff},
    {"look_m", "keeps rows as H2O and averages every other into the one with the most similar key",
     "arXiv 2406.18139; KVCache-Factory merge_kv", make_look_m},
    {"d2o", "keeps rows as H2O and merges others into the most similar, if they are similar enough", "arXiv 2406.13035",
     make_d2o},
    {"lagkv", "keeps the rows that spread most on the scale of the rows that follow", "arXiv 2504.04704", make_lagkv},
    {"merge_or_evict", "drops a row or merges two neighbours, whichever changes the answers to reference queries least",
     "docs/methods.md", make_merge_or_evict},
};

}  // namespace

std::span<const Entry> all() { return kPolicies; }

std::unique_ptr<Policy> make(const std::string& spec) { return make_from_table("policy", all(), spec); }

}  // namespace kvmerger::policy
