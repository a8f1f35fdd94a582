"""Metrics of tasks that hide something in a long text: RULER, needle in a haystack, lines, keys and values, passkey."""

import re

from rouge_score import rouge_scorer

from kvmerger_eval.metrics.sample import BadSample

_ROUGE_1 = rouge_scorer.RougeScorer(["rouge1"], use_stemmer=True)


def contains(prediction, answer):
    """1 when the answer is somewhere in the prediction, in upper or lower case."""
    if not answer:
        raise BadSample("an answer is empty, every text contains it")
    return float(answer.lower() in prediction.lower())


def last_number(prediction, answer):
    """1 when the last number of the prediction is the answer, as LongEval parses it."""
    if not re.fullmatch(r"\d+", answer):
        raise BadSample(f"the answer '{answer[:40]}' is no number")
    numbers = re.findall(r"\d+", prediction)
    return float(bool(numbers) and int(numbers[-1]) == int(answer))


def needle_rouge(prediction, answer):
    """F of ROUGE-1 with stems, prediction against needle."""
    return _ROUGE_1.score(answer, prediction)["rouge1"].fmeasure
