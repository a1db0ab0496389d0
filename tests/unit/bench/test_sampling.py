"""The order of samples and what each is kept as, with a prober that answers by rote."""

import pytest

from testbed.bench.measures import DIRECT, Plan
from testbed.bench.prober import ProbeError
from testbed.bench.sampling import Column, sample, spread
from testbed.errors import TestbedError


class Rote:
    """Answers 10 µs for connect, 30 for the first byte, 20 for a request, and notes who was called."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def new_connections(self, targets):
        self.log.append((self.name, targets))
        return [(10.0, 30.0)] * len(targets)

    def open_connection(self, target, requests):
        return [20.0] * requests


def run(modes, plan, targets):
    log = []
    cells = sample("native", 100, [Column(mode, Rote(mode, log), targets) for mode in modes], plan)
    return {(cell.measure, cell.mode): cell for cell in cells}, log


TARGETS = {"first": ("10.96.0.2", 80), "middle": ("10.96.0.3", 80), "last": ("10.96.0.4", 80)}


def test_services_probed_are_spread_over_the_list():
    assert spread(1) == {"only": 0}
    assert spread(2) == {"first": 0, "last": 1}
    assert spread(1000) == {"first": 0, "middle": 500, "last": 999}


def test_the_first_packet_of_the_backend_is_the_handshake_but_for_a_proxy_that_answers_itself():
    cells, _ = run((DIRECT, "iptables", "userspace"), Plan(blocks=2, samples=3), TARGETS)
    assert set(cells["first-packet", "iptables"].samples) == {10.0}
    assert set(cells["first-packet", "userspace"].samples) == {30.0}
    assert set(cells["first-byte", "iptables"].samples) == {30.0}
    assert set(cells["keep-alive", DIRECT].samples) == {20.0}


@pytest.mark.feature("D6")
def test_every_round_visits_every_mode_and_the_order_changes():
    plan = Plan(blocks=20, samples=3)
    _, log = run(("a", "b", "c"), plan, TARGETS)
    orders = [tuple(name for name, _ in log[i : i + 3]) for i in range(0, len(log), 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(orders) == plan.blocks + 1
    assert len(set(orders)) > 2


def test_each_sample_keeps_its_round_and_its_position():
    cells, _ = run(("a", "b"), Plan(blocks=4, samples=6), TARGETS)
    for cell in cells.values():
        assert sorted(set(cell.blocks)) == [0, 1, 2, 3]
        assert len(cell.samples) == 24
        assert {p: cell.positions.count(p) for p in TARGETS} == dict.fromkeys(TARGETS, 8)
        assert len(cell.at("last").samples) == 8


def test_the_same_seed_gives_the_same_order():
    plan = Plan(blocks=5, samples=3)
    assert run(("a", "b"), plan, TARGETS)[1] == run(("a", "b"), plan, TARGETS)[1]


class Deaf(Rote):
    """Loses every `n`th connection."""

    def __init__(self, name, log, n):
        super().__init__(name, log)
        self.n, self.count = n, 0

    def new_connections(self, targets):
        samples = super().new_connections(targets)
        return [self.lose(sample) for sample in samples]

    def lose(self, sample):
        self.count += 1
        return "no answer in 5 s" if self.count % self.n == 0 else sample


def test_what_got_no_answer_is_counted_and_said():
    said = []
    column = Column("ipvs", Deaf("ipvs", [], 30), TARGETS)
    cells = sample("native", 100, [column], Plan(blocks=10, samples=12), lost=said.append)
    assert [cell.lost for cell in cells] == [4, 4, 0]
    assert [len(cell.samples) for cell in cells] == [116, 116, 120]
    assert said[0] == "ipvs, 100 Services, First packet: no answer in 5 s"


def test_too_many_without_an_answer_are_a_fault():
    column = Column("ipvs", Deaf("ipvs", [], 4), TARGETS)
    with pytest.raises(TestbedError, match="30 of 120 probes got no answer"):
        sample("native", 100, [column], Plan(blocks=10, samples=12))


def test_a_connection_that_ends_loses_its_requests():
    class Ends(Rote):
        def open_connection(self, target, requests):
            raise ProbeError("closed")

    with pytest.raises(TestbedError, match="120 of 120"):
        sample("native", 100, [Column("ipvs", Ends("ipvs", []), TARGETS)], Plan(blocks=10, samples=12))
