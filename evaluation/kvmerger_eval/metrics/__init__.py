"""The metrics: one table, from the name in a task file to what computes it. Metrics see samples, never files."""

import dataclasses
import statistics
from typing import Callable

from kvmerger_eval.metrics import longbench, perplexity, retrieval, zeroscrolls
from kvmerger_eval.metrics.sample import BadSample, best, mean_of_answers

__all__ = ["BadSample", "METRICS", "Metric"]


def _mean(_, scores):
    return statistics.fmean(scores)


@dataclasses.dataclass(frozen=True)
class Metric:
    """`score` gives one sample's score from 0 to 1, reported times 100; `percent=False` is reported as it is."""
    score: Callable  # Prediction -> float; raises BadSample
    percent: bool = True
    mean: Callable = _mean  # samples, their scores -> float, as it is reported
    needs_answers: bool = True


METRICS = {
    # LongBench
    "classification": Metric(best(longbench.classification, with_classes=True)),
    "code_sim": Metric(best(longbench.code_sim)),
    "count": Metric(best(longbench.count)),
    "qa_f1": Metric(best(longbench.qa_f1)),
    "qa_f1_zh": Metric(best(longbench.qa_f1_zh)),
    "retrieval": Metric(best(longbench.retrieval)),
    "retrieval_zh": Metric(best(longbench.retrieval_zh)),
    "rouge": Metric(best(longbench.rouge)),
    "rouge_zh": Metric(best(longbench.rouge_zh)),
    # ZeroSCROLLS
    "accuracy": Metric(best(zeroscrolls.accuracy)),
    "concordance_index": Metric(best(zeroscrolls.concordance_index)),
    "exponential_similarity": Metric(best(zeroscrolls.exponential_similarity)),
    "f1": Metric(best(zeroscrolls.f1)),
    "rouge_geometric_mean": Metric(zeroscrolls.rouge_geometric_mean, mean=zeroscrolls.rouge_of_all),
    # needle in a haystack, RULER, lines, keys and values, passkey
    "last_number": Metric(best(retrieval.last_number)),
    "needle_rouge": Metric(best(retrieval.needle_rouge)),
    "string_match_all": Metric(mean_of_answers(retrieval.contains)),
    "string_match_part": Metric(best(retrieval.contains)),
    # long documents
    "perplexity": Metric(perplexity.of_sample, percent=False, mean=perplexity.of_all, needs_answers=False),
}
