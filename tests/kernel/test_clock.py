"""The instruction clock, for real: it repeats on a busy machine, and finds what a rule costs."""

import multiprocessing

import pytest

from testbed.bench import counted
from testbed.bench.columns import DIRECT
from testbed.bench.compare import REPEATS
from testbed.bench.measures import FIRST_BYTE, FIRST_PACKET
from testbed.bench.statistics import median
from testbed.bench.summary import summarise
from testbed.bench.words import slope

pytestmark = pytest.mark.moves_itself

MODES = ("iptables-legacy", "nftables", "userspace", "userspace-haproxy")
SIZES = (1, 500)
RULE = 26
"""Instructions that iptables-legacy takes to see that a packet is not for a Service's rule."""


def spin() -> None:
    while True:
        pass


@pytest.fixture
def busy():
    """Two processes that take what they get of the machine."""
    context = multiprocessing.get_context("spawn")
    hogs = [context.Process(target=spin, daemon=True) for _ in range(2)]
    for hog in hogs:
        hog.start()
    yield
    for hog in hogs:
        hog.kill()
        hog.join()


@pytest.fixture(scope="module")
def quiet():
    return counted.collect(MODES, SIZES, lambda said: None)


@pytest.mark.feature("D7")
def test_a_service_more_costs_what_its_rule_costs(quiet):
    summary = summarise(quiet)
    assert slope(summary, "iptables-legacy", *SIZES) == pytest.approx(RULE, rel=0.1)
    assert abs(slope(summary, "nftables", *SIZES)) < 1
    assert abs(slope(summary, DIRECT, *SIZES)) < 1


@pytest.mark.feature("D7")
def test_what_a_proxy_that_is_a_program_costs_is_counted_too(quiet):
    """It answers the SYN itself: the backend's first packet is the first byte of its answer."""
    for mode in ("userspace", "userspace-haproxy"):
        for services in SIZES:
            packet, byte = (quiet.cell(of.name, services, mode) for of in (FIRST_PACKET, FIRST_BYTE))
            assert packet.samples == byte.samples
            assert median(byte.samples) > 1.5 * median(quiet.cell(FIRST_BYTE.name, services, DIRECT).samples)
    assert slope(summarise(quiet), "userspace", *SIZES) > RULE  # redirect rules are a list


@pytest.mark.feature("D7")
def test_figures_repeat_on_a_busy_machine(quiet, busy):
    again = counted.collect(MODES, SIZES, lambda said: None)
    for cell in (cell for cell in quiet.cells if cell.measure in (FIRST_PACKET.name, FIRST_BYTE.name)):
        other = again.cell(cell.measure, cell.services, cell.mode)
        assert median(other.samples) == pytest.approx(median(cell.samples), rel=REPEATS), cell.key
