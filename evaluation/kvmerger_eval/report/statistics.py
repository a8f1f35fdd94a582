"""Paired differences and their bootstrap intervals; numbers in, numbers out."""

import numpy

RESAMPLES = 2000
SEED = 0


def paired_differences(scores, baseline):
    """[n] score minus baseline of the samples that both have; {id: score} each."""
    return numpy.array([scores[sample] - baseline[sample] for sample in baseline if sample in scores])


def mean_difference(tasks):
    """The mean over tasks of each task's mean difference; tasks: one array of differences each."""
    return float(numpy.mean([differences.mean() for differences in tasks]))


def interval(tasks):
    """The 95 % percentile interval of mean_difference, or None where a task has fewer than two samples.

    Samples are drawn again within their task, as the tasks are given and their samples are a choice.
    """
    if min(map(len, tasks), default=0) < 2:
        return None
    generator = numpy.random.default_rng(SEED)
    total = numpy.zeros(RESAMPLES)
    for differences in tasks:
        drawn = generator.integers(len(differences), size=(RESAMPLES, len(differences)))
        total += differences[drawn].mean(axis=1)
    low, high = numpy.percentile(total / len(tasks), [2.5, 97.5])
    return float(low), float(high)
