"""What several metrics do to text: SQuAD's normalisation and the F1 of two bags of tokens."""

import collections
import re
import string

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")


def squad_tokens(text):
    """Lower case, without ASCII punctuation, without articles, split at white space (Rajpurkar et al., 2016)."""
    return _ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def token_f1(prediction, answer):
    """Harmonic mean of precision and recall of the tokens, counted with repeats; 0 when none is shared."""
    shared = (collections.Counter(prediction) & collections.Counter(answer)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(answer)
    return 2 * precision * recall / (precision + recall)
