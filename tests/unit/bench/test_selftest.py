"""The verdicts of the self-test, from cells whose answer is known."""

import random
from dataclasses import replace

import pytest

from testbed.bench import counted, selftest
from testbed.bench.measures import FIRST_PACKET
from testbed.bench.record import Cell, Run
from testbed.bench.units import INSTRUCTIONS


def cell(name, factor, seed):
    source = random.Random(seed)
    values = tuple(factor * source.gauss(100, 2) for _ in range(1200))
    blocks = tuple(i // 12 for i in range(1200))
    return Cell("native", FIRST_PACKET.name, 100, name, values, blocks, ("last",) * 1200)


def cells(again=1.0, more=1.02):
    made = {
        selftest.A: cell("A", 1.0, 1),
        selftest.AGAIN: cell("a", again, 2),
        selftest.MORE: cell("m", more, 3),
    }
    return {(FIRST_PACKET.name, name): own for name, own in made.items()}


@pytest.mark.parametrize(
    ("made", "good"), [(cells(), True), (cells(again=1.02), False), (cells(more=1.0), False)]
)
def test_no_difference_and_one_of_two_percent(made, good):
    assert selftest.judged(made).good is good


def test_too_wide_an_interval_is_called_noise():
    few = {
        key: replace(own, samples=own.samples[:60], blocks=own.blocks[:60], positions=own.positions[:60])
        for key, own in cells(more=1.0).items()
    }
    verdict = selftest.judged(few)
    assert not verdict.good
    assert "too noisy" in verdict.lines[-1]


@pytest.mark.parametrize(("more", "good"), [(1.02, True), (1.0, False)])
def test_counted(monkeypatch, more, good):
    def measure(spots, say, plan):
        factors = (1.0, 1.0001, more)
        made = [
            Cell(INSTRUCTIONS, FIRST_PACKET.name, spot.services, spot.name, (90 * factor,), (0,), ("last",))
            for spot, factor in zip(spots, factors, strict=True)
        ]
        assert spots[2].more == 71
        return Run(INSTRUCTIONS, {}, cells=tuple(made))

    monkeypatch.setattr(counted, "measure", measure)
    verdict = selftest.counted(lambda said: None)
    assert verdict.good is good
    assert "+0.010%, no difference" in verdict.lines[1]
