"""LongBench's metrics on pairs whose values are worked out in the comments, and against slow second implementations."""

import itertools
import math
import random
import sys

import pytest

from kvmerger_eval.metrics import METRICS, BadSample, longbench


class Sample:
    def __init__(self, prediction, answers, all_classes=()):
        self.prediction, self.answers, self.all_classes = prediction, answers, list(all_classes)


def near(value):
    return pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("prediction, answer, expected", [
    ("The Cat!", "a cat", 1.0),  # cat | cat
    ("a black cat", "the cat sat", 0.5),  # black cat | cat sat: 1 shared, precision 1/2, recall 1/2
    ("cat cat cat", "cat", 0.5),  # repeats count: precision 1/3, recall 1, 2 * 1/3 / (4/3)
    ("cat cat", "cat cat dog", 0.8),  # both are shared: precision 2/2, recall 2/3, (4/3) / (5/3)
    ("Bob Dylan, born 1941", "Bob Dylan", 2 / 3),  # precision 2/4, recall 2/2, 2 * 0.5 / 1.5
    ("it's a well-known fact", "its wellknown", 0.8),  # punctuation joins: its wellknown fact: 2/3, 1, (4/3) / (5/3)
    ("dog", "cat", 0.0),
    ("", "cat", 0.0),
    ("the", "a", 0.0),  # articles only: nothing is shared, nothing is divided by
])
def test_qa_f1(prediction, answer, expected):
    assert longbench.qa_f1(prediction, answer) == near(expected)


def test_qa_f1_zh():
    # jieba's own example: 我 / 来到 / 北京 / 清华大学 against 北京 / 清华大学: precision 2/4, recall 2/2
    assert longbench.qa_f1_zh("我来到北京清华大学", "北京清华大学。") == near(2 / 3)
    assert longbench.qa_f1_zh("北京，清华大学！", "北京清华大学") == 1.0  # punctuation is no token
    assert longbench.qa_f1_zh("GPT", "gpt") == 1.0
    assert longbench.qa_f1_zh("。，", "北京") == 0.0


def rouge_f(precision, recall):
    return 2 * precision * recall / (precision + recall + 1e-8)  # the library's, with its small term


@pytest.mark.parametrize("prediction, answer, precision, recall", [
    ("the cat sat", "the cat sat", 1, 1),
    ("the cat", "the cat sat down", 1, 2 / 4),
    ("sat cat the", "the cat sat", 1 / 3, 1 / 3),  # one word at most is in the same order
    ("a b c", "c d. a e", 2 / 3, 2 / 4),  # sentences of the answer one by one: c, then a
    ("a a b", "a b", 1, 1),  # words count once: {a, b} has 2
])
def test_rouge_is_the_f_of_summary_level_rouge_l(prediction, answer, precision, recall):
    assert longbench.rouge(prediction, answer) == near(rouge_f(precision, recall))


@pytest.mark.parametrize("prediction, answer", [("", "a"), ("...", "a"), ("a", ""), ("a", "b")])
def test_rouge_of_nothing_is_zero(prediction, answer):
    assert longbench.rouge(prediction, answer) == 0.0


def longest_common(left, right):
    """By trying all parts of the shorter one."""
    left, right = sorted((left, right), key=len)
    for size in range(len(left), 0, -1):
        for part in itertools.combinations(left, size):
            rest = iter(right)
            if all(word in rest for word in part):
                return size
    return 0


def test_rouge_equals_a_search_over_all_common_sequences():
    rng = random.Random(3)
    for _ in range(200):
        left, right = (rng.sample("abcdefghij", rng.randint(1, 8)) for _ in range(2))  # no word twice
        common = longest_common(left, right)
        expected = rouge_f(common / len(left), common / len(right)) if common else 0.0
        assert longbench.rouge(" ".join(left), " ".join(right)) == near(expected)


def test_rouge_of_long_sentences_is_their_score():
    words = [f"w{number}" for number in range(1500)]  # the library recurses once a word
    limit = sys.getrecursionlimit()
    assert longbench.rouge("\n".join(words), " ".join(words)) == near(rouge_f(1, 1))
    assert longbench.rouge(" ".join(words[:750]), " ".join(words)) == near(rouge_f(1, 0.5))
    assert sys.getrecursionlimit() == limit


def test_rouge_zh_cuts_words():
    assert longbench.rouge_zh("我来到北京清华大学", "北京清华大学") == near(rouge_f(2 / 4, 1))
    assert longbench.rouge_zh("", "北京") == 0.0


@pytest.mark.parametrize("prediction, answer, expected", [
    ("Type: Date", "Date", 1.0),
    ("Date or Food", "Date", 0.5),  # two classes are named
    ("Food", "Date", 0.0),
    ("nothing of the kind", "Date", 0.0),
    ("Other location", "Other location", 1.0),  # 'Other' lies in the answer and is not counted
    ("Other", "Other location", 0.0),
])
def test_classification(prediction, answer, expected):
    classes = ["Date", "Food", "Other", "Other location"]
    assert longbench.classification(prediction, answer, classes) == expected


def test_classification_skips_the_class_behind_one_it_drops():
    # All three are named. 'Other' is dropped, so the walk goes on behind 'location', which stays: 1 of 2.
    assert longbench.classification("Other location", "Other location", ["Other", "location", "Other location"]) == 0.5


def test_classification_needs_the_classes():
    with pytest.raises(BadSample, match="all_classes"):
        METRICS["classification"].score(Sample("Date", ["Date"]))


@pytest.mark.parametrize("prediction, expected", [
    ("12", 1.0), ("There are 12 of 30", 0.5), ("12, 12 or 13", 2 / 3), ("twelve", 0.0), ("", 0.0), ("112", 0.0)])
def test_count_is_the_share_of_right_numbers(prediction, expected):
    assert longbench.count(prediction, "12") == near(expected)


@pytest.mark.parametrize("score, right", [(longbench.retrieval, "Paragraph 7"), (longbench.retrieval_zh, "段落7")])
def test_retrieval_is_the_share_of_right_numbers(score, right):
    assert score(right, right) == 1.0
    assert score("7 or 8", right) == 0.5
    assert score("Paragraph 17", right) == 0.0
    assert score("none", right) == 0.0
    with pytest.raises(BadSample, match="does not name a paragraph"):
        score("7", "7")


@pytest.mark.parametrize("prediction, answer, expected", [
    ("abcd", "bcde", 0.75),  # bcd: 2 * 3 / 8
    ("return x", "return x", 1.0),
    ("ab", "abcd", 0.67),  # 2 * 2 / 6 = 0.666..., in whole percent
    ("\n\n# a comment\n```python\n// another\nx = 1\ny = 2", "x = 1", 1.0),  # the first line of code
    ("# nothing but a comment", "x = 1", 0.0),
    ("", "x", 0.0),
    ("\nab\ncd", "cd", 0.0),
])
def test_code_sim(prediction, answer, expected):
    assert longbench.code_sim(prediction, answer) == expected


def test_the_best_answer_counts():
    assert METRICS["qa_f1"].score(Sample("Bob Dylan", ["Dylan", "Bob Dylan", "nobody"])) == 1.0
    assert METRICS["count"].score(Sample("3", ["4", "3"])) == 1.0
    assert math.isclose(METRICS["rouge"].score(Sample("a b", ["c", "a"])), rouge_f(0.5, 1))
