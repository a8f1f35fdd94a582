"""LongBench v1's metrics of one prediction and one answer, with the values of its own scorer (THUDM/LongBench,
metrics.py). Where that one differs from what one would write, a comment says so.
"""

import contextlib
import difflib
import logging
import re
import string
import sys

import jieba
import rouge as rouge_library

from kvmerger_eval.metrics.sample import BadSample
from kvmerger_eval.metrics.text import squad_tokens, token_f1

jieba.setLogLevel(logging.WARNING)

# The benchmark's list: of the angle brackets it has the closing double one only.
_CHINESE_PUNCTUATION = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】"
    "〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏.")
_ALL_PUNCTUATION = str.maketrans("", "", string.punctuation + _CHINESE_PUNCTUATION)
_ROUGE_L = rouge_library.Rouge(metrics=["rouge-l"])


def qa_f1(prediction, answer):
    return token_f1(squad_tokens(prediction), squad_tokens(answer))


def _chinese_tokens(text):
    """jieba's words, each lowered and stripped of punctuation and white space; empty ones are left out."""
    words = ("".join(word.lower().translate(_ALL_PUNCTUATION).split()) for word in jieba.cut(text))
    return [word for word in words if word]


def qa_f1_zh(prediction, answer):
    return token_f1(_chinese_tokens(prediction), _chinese_tokens(answer))


@contextlib.contextmanager
def _recursion_to(depth):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, depth))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def rouge(prediction, answer):
    """F of ROUGE-L over sentences (cut at full stops), by the library that the benchmark uses.

    That library walks two sentences by recursion, and the benchmark's scorer gives 0 when Python refuses, from about
    1,000 words on. Here such sentences have their score. Without a sentence the score is 0, as it is there.
    """
    if not prediction.strip(".") or not answer.strip("."):
        return 0.0
    with _recursion_to(1000 + len(prediction.split()) + len(answer.split())):
        return _ROUGE_L.get_scores([prediction], [answer], avg=True)["rouge-l"]["f"]


def rouge_zh(prediction, answer):
    return rouge(" ".join(jieba.cut(prediction)), " ".join(jieba.cut(answer)))


def classification(prediction, answer, all_classes):
    """1 over the number of classes that the prediction names, when the answer is one of them.

    A class whose name lies within the answer's is not counted. As in the benchmark the one behind it in the list then
    escapes that test, since the list shrinks while it is walked.
    """
    named = [name for name in all_classes if name in prediction]
    place = 0
    while place < len(named):
        if named[place] in answer and named[place] != answer:
            del named[place]
        place += 1
    return 1 / len(named) if answer in named else 0.0


def _share_of_numbers(prediction, wanted):
    numbers = re.findall(r"\d+", prediction)
    return numbers.count(wanted) / len(numbers) if numbers else 0.0


def count(prediction, answer):
    """The share of the numbers in the prediction that are the answer."""
    return _share_of_numbers(prediction, answer)


def _paragraph_number(answer, word):
    number = re.search(word + r"(\d+)", answer)
    if not number:
        raise BadSample(f"the answer '{answer[:40]}' does not name a paragraph as '{word}1'")
    return number[1]


def retrieval(prediction, answer):
    return _share_of_numbers(prediction, _paragraph_number(answer, "Paragraph "))


def retrieval_zh(prediction, answer):
    return _share_of_numbers(prediction, _paragraph_number(answer, "段落"))


def code_sim(prediction, answer):
    """Similarity of the first line that is neither comment nor fence, in whole percent.

    The benchmark's fuzzywuzzy.fuzz.ratio is this ratio of difflib's, rounded, unless python-Levenshtein is installed
    beside it, which the benchmark does not ask for.
    """
    lines = prediction.lstrip("\n").split("\n")
    line = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    return round(100 * difflib.SequenceMatcher(None, line, answer).ratio()) / 100
