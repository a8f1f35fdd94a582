"""ZeroSCROLLS' metrics on the paper's examples, values worked out in the comments, and slow second implementations."""

import collections
import math
import random
import re

import pytest

from kvmerger_eval.metrics import METRICS, BadSample, zeroscrolls


class Sample:
    def __init__(self, prediction, answers):
        self.prediction, self.answers = prediction, answers


def near(value):
    return pytest.approx(value, abs=1e-12)


def f(shared, given, wanted):
    return 2 * shared / (given + wanted) if shared else 0.0


def slow_rouge(prediction, answer):
    """ROUGE-1, ROUGE-2 and ROUGE-L from their definitions."""
    left, right = (re.findall("[a-z0-9]+", text.lower()) for text in (prediction, answer))
    scores = []
    for n in (1, 2):
        grams = [collections.Counter(zip(*(words[at:] for at in range(n)))) for words in (left, right)]
        scores.append(f((grams[0] & grams[1]).total(), grams[0].total(), grams[1].total()))
    longest = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for row, word in enumerate(left):
        for column, other in enumerate(right):
            longest[row + 1][column + 1] = (longest[row][column] + 1 if word == other else
                                            max(longest[row][column + 1], longest[row + 1][column]))
    return [*scores, f(longest[-1][-1], len(left), len(right))]


def test_rouge_of_one_answer():
    # the cat sat down | the cat ran: ROUGE-1 2 * 2 / 7, ROUGE-2 2 * 1 / 5, ROUGE-L 2 * 2 / 7
    assert zeroscrolls.rouge_geometric_mean(Sample("The cat sat down.", ["the cat ran"])) == near(
        (4 / 7 * 2 / 5 * 4 / 7) ** (1 / 3))
    assert zeroscrolls.rouge_geometric_mean(Sample("the cat", ["the cat"])) == near(1)
    assert zeroscrolls.rouge_geometric_mean(Sample("", ["the cat"])) == 0.0
    assert zeroscrolls.rouge_geometric_mean(Sample("eating cats", ["eat cat"])) == 0.0  # words, not stems


def test_rouge_takes_the_best_answer_for_each_kind_by_itself():
    # "a b c d" against "b a d c": 1, 0, 2 * 2 / 8; against "a b x": 4/7, 2 * 1 / 5, 4/7. Best: 1, 2/5, 4/7.
    assert zeroscrolls.rouge_geometric_mean(Sample("a b c d", ["b a d c", "a b x"])) == near((2 / 5 * 4 / 7) ** (1 / 3))


def test_rouge_equals_its_definition():
    rng = random.Random(5)
    for _ in range(100):
        prediction, *answers = (" ".join(rng.choices("abcdef", k=rng.randint(1, 12))) for _ in range(3))
        best = map(max, zip(*(slow_rouge(prediction, answer) for answer in answers)))
        assert zeroscrolls.rouge_geometric_mean(Sample(prediction, answers)) == near(math.prod(best) ** (1 / 3))


def test_f1_reads_accents_as_ascii():
    assert zeroscrolls.f1("Café Zoë", "the cafe Zoe") == 1.0
    assert zeroscrolls.f1("“Guy” Ritchie", "Guy Ritchie") == near(0.5)  # the quotes stay, as "guy" in ASCII
    assert zeroscrolls.f1("«Guy» Ritchie", '"Guy" Ritchie') == near(0.5)
    assert zeroscrolls.f1("a black cat", "the cat sat") == near(0.5)  # as SQuAD's: 1 of 2 and 1 of 2
    assert METRICS["f1"].score(Sample("cat", ["dog", "cat"])) == 1.0


@pytest.mark.parametrize("prediction, expected", [
    ("B", 1.0), ("(B) The captain", 1.0), ("The answer is B, not C.", 1.0), ("C. Then B", 0.0), ("", 0.0),
    ("Boats", 0.0),  # no letter stands alone
    ("b", 0.0),
    ("A good guess is B", 0.0),  # the article is an option letter, as the paper's rule has it
])
def test_accuracy_is_of_the_first_letter_that_stands_alone(prediction, expected):
    assert zeroscrolls.accuracy(prediction, "B") == expected
    assert zeroscrolls.accuracy(prediction, "(B) The captain") == expected


def test_rouge_of_a_task_is_of_the_means():
    # A published log of the scorer: ROUGE-1 14.0551, ROUGE-2 1.7036, ROUGE-L 7.2567 over the samples gave 5.5801.
    assert zeroscrolls.geometric_mean([14.0551, 1.7036, 7.2567]) == pytest.approx(5.5801, abs=1e-4)
    samples = [Sample("a b c d", ["b a d c"]), Sample("a b", ["a b"])]  # 1, 0, 1/2 and 1, 1, 1
    scores = [METRICS["rouge_geometric_mean"].score(sample) for sample in samples]
    assert scores == [0.0, near(1)]
    assert METRICS["rouge_geometric_mean"].mean(samples, scores) == near(100 * (1 * 0.5 * 0.75) ** (1 / 3))


def test_accuracy_needs_a_letter():
    with pytest.raises(BadSample, match="none of A, B, C and D"):
        zeroscrolls.accuracy("B", "the captain")


@pytest.mark.parametrize("prediction, expected", [
    ("40%", 1.0),
    ("50%", 0.5),  # halved for every 10 points
    ("Out of 50 reviews, 20 are positive and 30 are negative, so 40% of the reviews are positive 60% are negative.",
     1.0),  # the paper's example: the first percentage
    ("42.5%", 2 ** -0.25),
    ("50 %", 0.0),  # the scorer wants the sign at the number
    ("70 % or 40%", 1.0),
    ("100%", 2 ** -6),
    ("40", 0.0),  # no percentage
    ("", 0.0),
])
def test_exponential_similarity(prediction, expected):
    assert zeroscrolls.exponential_similarity(prediction, "40%") == near(expected)


def test_exponential_similarity_needs_a_percentage():
    with pytest.raises(BadSample, match="no percentage"):
        zeroscrolls.exponential_similarity("40%", "forty")


@pytest.mark.parametrize("prediction, expected", [
    ("5, 1, 3, 4, 2", 1.0),
    ("2, 4, 3, 1, 5", 0.0),  # backwards
    ("1, 5, 3, 4, 2", 0.9),  # one of 10 pairs is turned round
    ("Order: 5 1 3\n4, 2.", 1.0),  # letters and other marks are dropped
    ("Summary 5, Summary 1, Summary 3, Summary 4, Summary 2", 1.0),
    ("5, 1, 3, 4", 0.0), ("5, 1, 3, 4, 4", 0.0), ("5, 1, 3, 4, 2, 6", 0.0), ("5, 1, 3, 4, 2, 2", 0.0), ("", 0.0)])
def test_concordance_index(prediction, expected):
    assert zeroscrolls.concordance_index(prediction, "5, 1, 3, 4, 2") == near(expected)


def test_concordance_index_counts_the_swaps_of_bubble_sort():
    rng = random.Random(7)
    for size in range(2, 12):
        order, given = (rng.sample(range(1, size + 1), size) for _ in range(2))
        ranks, swaps = [order.index(number) for number in given], 0
        for last in range(size - 1, 0, -1):
            for at in range(last):
                if ranks[at] > ranks[at + 1]:
                    ranks[at], ranks[at + 1] = ranks[at + 1], ranks[at]
                    swaps += 1
        text = [", ".join(map(str, numbers)) for numbers in (given, order)]
        assert zeroscrolls.concordance_index(*text) == near(1 - swaps / math.comb(size, 2))


@pytest.mark.parametrize("answer", ["", "3", "1, 2, 2"])
def test_concordance_index_needs_an_order(answer):
    with pytest.raises(BadSample, match="no order of summaries"):
        zeroscrolls.concordance_index("1, 2", answer)
