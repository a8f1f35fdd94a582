"""Metrics of what is hidden in long texts, and perplexity, on values worked out in the comments."""

import math

import pytest

from kvmerger_eval.metrics import METRICS, BadSample, perplexity, retrieval


class Sample:
    def __init__(self, prediction="", answers=(), extra=None):
        self.prediction, self.answers, self.extra = prediction, list(answers), extra or {}


def near(value):
    return pytest.approx(value, abs=1e-12)


def test_string_match_all_is_the_share_of_answers_found():
    score = METRICS["string_match_all"].score
    assert score(Sample("It is 123 and also 456.", ["123", "456"])) == 1.0
    assert score(Sample("123, 789", ["123", "456", "789", "000"])) == 0.5
    assert score(Sample("ABC", ["abc"])) == 1.0
    assert score(Sample("", ["abc"])) == 0.0


def test_string_match_part_asks_for_one_of_the_answers():
    score = METRICS["string_match_part"].score
    assert score(Sample("Paris, France", ["london", "paris"])) == 1.0
    assert score(Sample("Rome", ["london", "paris"])) == 0.0


def test_an_empty_answer_is_not_found_everywhere():
    with pytest.raises(BadSample, match="an answer is empty"):
        METRICS["string_match_part"].score(Sample("text", [""]))


@pytest.mark.parametrize("prediction, expected", [
    ("42527", 1.0), ("The <REGISTER_CONTENT> in line 7 is <42527>.", 1.0), ("042527", 1.0), ("42527 of line 7", 0.0),
    ("425271", 0.0), ("no number", 0.0), ("", 0.0)])
def test_last_number(prediction, expected):
    assert retrieval.last_number(prediction, "42527") == expected


def test_last_number_needs_a_number():
    with pytest.raises(BadSample, match="no number"):
        retrieval.last_number("42527", "<42527>")


def test_needle_rouge_counts_stems():
    # eat a sandwich | eating sandwiches: stems eat a sandwich | eat sandwich: precision 2/3, recall 2/2
    assert retrieval.needle_rouge("Eat a sandwich", "eating sandwiches") == near(0.8)
    assert retrieval.needle_rouge("", "eating sandwiches") == 0.0


def test_perplexity_of_a_sample_is_the_exponential_of_its_mean():
    assert perplexity.of_sample(Sample(extra={"nll": 3 * math.log(2), "tokens": 3})) == near(2)


def test_perplexity_of_a_task_weighs_tokens():
    # 3 tokens of probability 1/2 and one of 1/8: 6 ln 2 over 4 tokens
    samples = [Sample(extra={"nll": 3 * math.log(2), "tokens": 3}), Sample(extra={"nll": math.log(8), "tokens": 1})]
    assert perplexity.of_all(samples, None) == near(2 ** 1.5)


@pytest.mark.parametrize("extra", [{}, {"nll": 1.0}, {"nll": 1.0, "tokens": 0}, {"nll": "1", "tokens": 1},
                                   {"nll": math.inf, "tokens": 1}])
def test_perplexity_needs_sums(extra):
    with pytest.raises(BadSample, match="'extra' has no"):
        perplexity.of_sample(Sample(extra=extra))
