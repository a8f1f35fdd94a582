"""ZeroSCROLLS' metrics (Shaham et al., 2023, section 3.3), of one prediction and one answer unless said otherwise."""

import itertools
import math
import re
import statistics

import anyascii
from rouge_score import rouge_scorer

from kvmerger_eval.metrics.sample import BadSample
from kvmerger_eval.metrics.text import squad_tokens, token_f1

_ROUGE_TYPES = ["rouge1", "rouge2", "rougeL"]
_ROUGE = rouge_scorer.RougeScorer(_ROUGE_TYPES, use_stemmer=False)
_OPTION = re.compile(r"\b[ABCD]\b")
_PERCENTAGE = re.compile(r"(\d+\.?\d*)%")


def _rouges(sample):
    """ROUGE-1, ROUGE-2 and ROUGE-L, each the best over the sample's answers."""
    scores = [_ROUGE.score(answer, sample.prediction) for answer in sample.answers]
    return [max(score[kind].fmeasure for score in scores) for kind in _ROUGE_TYPES]


def geometric_mean(rouges):
    return math.prod(rouges) ** (1 / len(_ROUGE_TYPES))


def rouge_geometric_mean(sample):
    """The geometric mean of a sample's three ROUGEs."""
    return geometric_mean(_rouges(sample))


def rouge_of_all(samples, _):
    """The geometric mean of the three ROUGEs' means over samples, as the scorer of SCROLLS and ZeroSCROLLS has it: a
    sample without a common pair of words counts in the other two."""
    return 100 * geometric_mean([statistics.fmean(of_kind) for of_kind in zip(*map(_rouges, samples))])


def f1(prediction, answer):
    """SQuAD's F1. Words become ASCII only after SQuAD's normalisation, which does not know curly quotes: they stay.

    The benchmark's scorer has unidecode for that, which is under the GPL.
    """
    return token_f1(*(anyascii.anyascii(" ".join(squad_tokens(text))).split() for text in (prediction, answer)))


def accuracy(prediction, answer):
    """1 when the first option letter that stands alone is the answer's."""
    right = _OPTION.search(answer)
    if not right:
        raise BadSample(f"the answer '{answer[:40]}' is none of A, B, C and D")
    chosen = _OPTION.search(prediction)
    return float(chosen is not None and chosen[0] == right[0])


def exponential_similarity(prediction, answer):
    """Halved for every 10 points between the first percentage of the prediction and the answer's; 0 without one."""
    right = _PERCENTAGE.search(answer)
    if not right:
        raise BadSample(f"the answer '{answer[:40]}' is no percentage")
    given = _PERCENTAGE.search(prediction)
    return 2 ** (-abs(float(given[1]) - float(right[1])) / 10) if given else 0.0


def _numbers(text):
    """The numbers of a list; anything but digits, commas and white space is dropped first."""
    return [int(number) for number in re.split(r"[,\s]+", re.sub(r"[^\d,\s]", "", text)) if number]


def concordance_index(prediction, answer):
    """The share of pairs that stand in the answer's order; 0 when the prediction is no permutation of the answer."""
    order, given = _numbers(answer), _numbers(prediction)
    if len(order) < 2 or len(set(order)) != len(order):
        raise BadSample(f"the answer '{answer[:40]}' is no order of summaries")
    if sorted(given) != sorted(order):
        return 0.0
    place = {number: at for at, number in enumerate(given)}
    pairs = list(itertools.combinations(order, 2))
    return sum(place[first] < place[second] for first, second in pairs) / len(pairs)
