"""Bootstrap intervals against distributions that can be written out."""

import numpy
import pytest

from kvmerger_eval.report import statistics


def test_pairs_are_by_sample_and_only_common_ones():
    full = {"a": 10.0, "b": 20.0, "c": 30.0}
    assert list(statistics.paired_differences({"c": 31.0, "a": 7.0, "x": 99.0}, full)) == [-3.0, 1.0]


def test_equal_differences_leave_nothing_to_chance():
    assert statistics.interval([numpy.full(7, -2.5)]) == (-2.5, -2.5)


def test_two_samples_by_hand():
    # Means of two draws from {0, 1}: 0, 1/2, 1 with chances 1/4, 1/2, 1/4; both tails are wider than 2.5 %.
    assert statistics.interval([numpy.array([0.0, 1.0])]) == (0.0, 1.0)


def test_many_samples_follow_the_normal_law():
    differences = numpy.random.default_rng(5).normal(3, 8, size=400)
    low, high = statistics.interval([differences])
    half = 1.96 * differences.std() / 20  # a bootstrap mean has variance s^2 / n
    assert low == pytest.approx(differences.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(differences.mean() + half, abs=0.15 * half)


def test_samples_are_drawn_within_their_task():
    # Tasks far apart, each without spread: drawing over all samples would give a wide interval.
    assert statistics.interval([numpy.full(5, 0.0), numpy.full(3, 10.0)]) == (5.0, 5.0)


def test_tasks_weigh_the_same_and_variances_add():
    generator = numpy.random.default_rng(6)
    tasks = [generator.normal(0, 4, size=100), generator.normal(6, 10, size=400)]
    low, high = statistics.interval(tasks)
    half = 1.96 * (tasks[0].var() / 100 + tasks[1].var() / 400) ** 0.5 / 2
    centre = (tasks[0].mean() + tasks[1].mean()) / 2
    assert statistics.mean_difference(tasks) == pytest.approx(centre)
    assert (low, high) == (pytest.approx(centre - half, abs=0.15 * half), pytest.approx(centre + half, abs=0.15 * half))


def test_one_sample_has_no_interval():
    assert statistics.interval([numpy.array([4.0]), numpy.array([1.0])]) is None
    assert statistics.interval([numpy.array([4.0, 2.0]), numpy.array([1.0])]) is None


def test_the_same_numbers_every_time():
    differences = numpy.arange(20.0)
    assert statistics.interval([differences]) == statistics.interval([differences])
