"""Perplexity from what the run has summed: extra.nll, the sum of -ln p, over extra.tokens tokens."""

import math

from kvmerger_eval.metrics.sample import BadSample


def _sums(sample):
    nll, tokens = sample.extra.get("nll"), sample.extra.get("tokens")
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (nll, tokens))
    if not numbers or not math.isfinite(nll) or tokens <= 0:
        raise BadSample("'extra' has no 'nll' (a number) and 'tokens' (more than 0), from which perplexity is made")
    return nll, tokens


def of_sample(sample):
    nll, tokens = _sums(sample)
    return math.exp(nll / tokens)


def of_all(samples, _):
    """Of all samples as one text: a long one weighs more."""
    sums = [_sums(sample) for sample in samples]
    return math.exp(sum(nll for nll, _ in sums) / sum(tokens for _, tokens in sums))
