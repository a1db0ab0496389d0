"""Percentiles, intervals and distribution functions against values worked out by hand or by theory."""

import random
import statistics as stdlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.bench import statistics
from testbed.bench.statistics import ecdf, enough, interval, median, quantile, ratio, resample

numbers = st.lists(st.floats(0.001, 1e6), min_size=2, max_size=60)


def test_quantile_is_linear_between_order_statistics():
    assert quantile([10, 20, 30, 40, 50], 0.25) == 20
    assert quantile([10, 20, 30, 40], 0.5) == 25
    assert quantile(range(101), 0.99) == pytest.approx(99)


@given(numbers)
def test_median_agrees_with_the_standard_library(values):
    assert median(values) == pytest.approx(stdlib.median(values))


@pytest.mark.parametrize(
    ("count", "q", "answer"), [(99, 0.99, False), (100, 0.99, True), (0, 0.5, False), (2, 0.5, True)]
)
def test_a_quantile_needs_a_sample_beyond_it(count, q, answer):
    assert enough(count, q) is answer


def test_too_few_samples_for_a_percentile_are_refused():
    with pytest.raises(ValueError, match=r"99 samples are too few for the 0\.99 quantile"):
        quantile(range(99), 0.99)


@given(numbers)
def test_ecdf_rises_to_one_and_counts_ties_once(values):
    points = ecdf(values)
    assert points[-1] == (max(values), 1.0)
    assert [x for x, _ in points] == sorted(set(values))
    assert all(share == sum(v <= x for v in values) / len(values) for x, share in points)


def test_median_interval_holds_the_true_median_as_often_as_it_says():
    source = random.Random(7)
    held = 0
    for _ in range(100):
        values = [source.lognormvariate(3, 0.4) for _ in range(200)]
        held += 20.0855 in interval(resample(values, [i // 10 for i in range(200)], draws=200))
    assert 88 <= held <= 100


def _machine(source, factor, moods, each=10):
    """Samples with a slowness common to all of a block, as a busy neighbour makes it."""
    return [mood * factor * source.lognormvariate(3, 0.05) for mood in moods for _ in range(each)]


def test_pairing_takes_the_mood_of_a_block_out_of_the_ratio():
    source = random.Random(3)
    moods = [source.uniform(1, 3) for _ in range(30)]
    names = [block for block in range(30) for _ in range(10)]
    base, slower = _machine(source, 1.0, moods), _machine(source, 1.5, moods)
    paired = ratio(resample(slower, names), resample(base, names))
    apart = ratio(resample(slower, names), resample(base, names, seed=1))
    assert 1.5 in paired
    assert (paired.high - paired.low) < 0.5 * (apart.high - apart.low)


def test_the_same_against_itself_is_no_difference():
    source = random.Random(5)
    moods = [source.uniform(1, 1.2) for _ in range(30)]
    names = [block for block in range(30) for _ in range(10)]
    one, other = _machine(source, 1, moods), _machine(source, 1, moods)
    assert 1.0 in ratio(resample(one, names), resample(other, names))


def test_the_same_samples_give_the_same_interval():
    values, names = list(range(1, 101)), [i // 10 for i in range(100)]
    assert resample(values, names) == resample(values, names)


def test_samples_and_block_numbers_must_match():
    with pytest.raises(ValueError, match="2 samples with 1 block"):
        resample([1.0, 2.0], [0])


def test_warm_up_ends_where_the_level_is_steady():
    steady = [10.0, 10.2, 9.9, 10.1, 9.8, 10.0, 10.1, 9.9, 10.2, 10.0, 9.9, 10.1, 10.0, 9.8, 10.1]
    assert statistics.warm_up([25.0, 18.0, 13.0, *steady]) == 3
    assert statistics.warm_up([25.0, 18.0, 13.0]) == 0
    assert statistics.warm_up(steady) < len(steady) // 2


def test_a_change_of_level_is_found_where_it_is_and_noise_is_none():
    source = random.Random(4)
    noise = [source.gauss(20, 1) for _ in range(60)]
    assert statistics.change_point(noise) is None
    changed = noise[:35] + [value + 4 for value in noise[35:]]
    found = statistics.change_point(changed)
    assert abs(found.index - 35) <= 2
    assert (round(found.before), round(found.after)) == (20, 24)
    assert statistics.change_point([1.0, 2.0]) is None


def test_only_what_is_far_out_is_an_outlier():
    assert statistics.outliers([*range(100), 500, -400]) == 2
    assert statistics.outliers(list(range(100))) == 0
    assert statistics.outliers([1.0]) == 0
