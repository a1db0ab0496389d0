"""The order of samples and what each is kept as, with a prober that answers by rote."""

from dataclasses import replace

import pytest

from testbed.bench.columns import COLUMNS, DIRECT
from testbed.bench.latency import LATENCY
from testbed.bench.plan import OTHER_NODE, QUICK
from testbed.bench.prober import ProbeError
from testbed.bench.sampling import Point, sample, spread
from testbed.bench.taking import Seat
from testbed.errors import TestbedError

POINT = Point("native", 100, 1)


class Rote:
    """Answers 10 µs for connect, 30 for the first byte, 20 for a request, and notes who was called."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def call(self, function, *arguments):
        return getattr(self, function.__name__)(*arguments)

    def new_connections(self, targets, stretch):
        self.log.append((self.name, targets))
        return [(10.0, 30.0)] * len(targets)

    def open_connection(self, target, requests, stretch):
        return [20.0] * requests


def much(rounds, samples):
    return replace(QUICK, rounds=rounds, samples=samples)


def seat(place, name="ipvs"):
    return Seat(COLUMNS.get(name), OTHER_NODE, place, TARGETS, None)


def run(modes, profile):
    log = []
    seats = [seat(Rote(mode, log), mode) for mode in modes]
    cells = sample(POINT, LATENCY, seats, profile, seed=1)
    return {(cell.measure, cell.mode): cell for cell in cells}, log


TARGETS = {"first": ("10.96.0.2", 80), "middle": ("10.96.0.3", 80), "last": ("10.96.0.4", 80)}
MODES = ("iptables", "ipvs", "nftables")


def test_services_probed_are_spread_over_the_list():
    assert spread(1) == {"only": 0}
    assert spread(2) == {"first": 0, "last": 1}
    assert spread(1000) == {"first": 0, "middle": 500, "last": 999}


def test_the_first_packet_of_the_backend_is_the_handshake_but_for_a_proxy_that_answers_itself():
    cells, _ = run((DIRECT, "iptables", "userspace"), much(2, 3))
    assert set(cells["first-packet", "iptables"].samples) == {10.0}
    assert set(cells["first-packet", "userspace"].samples) == {30.0}
    assert set(cells["first-byte", "iptables"].samples) == {30.0}
    assert set(cells["keep-alive", DIRECT].samples) == {20.0}


def test_every_round_visits_every_mode_and_the_order_changes():
    profile = much(20, 3)
    _, log = run(MODES, profile)
    orders = [tuple(name for name, _ in log[i : i + 3]) for i in range(0, len(log), 3)]
    assert all(sorted(order) == sorted(MODES) for order in orders)
    assert len(orders) == profile.rounds + LATENCY.warm_up
    assert len(set(orders)) > 2


def test_seats_are_made_ready_a_round_ahead():
    log = []
    taking = replace(LATENCY, ready=lambda seat, profile: log.append(("ready", seat.name)))
    sample(POINT, taking, [seat(Rote(mode, log), mode) for mode in MODES], much(2, 3), seed=1)
    steps = ["ready" if who == "ready" else "visit" for who, _ in log]
    assert steps == [*["ready"] * 6, *["visit"] * 3, *["ready"] * 3, *["visit"] * 6]


def test_each_sample_keeps_its_round_and_its_position():
    cells, _ = run(MODES, much(4, 6))
    for cell in cells.values():
        assert sorted(set(cell.blocks)) == [0, 1, 2, 3]
        assert len(cell.samples) == 24
        assert {p: cell.positions.count(p) for p in TARGETS} == dict.fromkeys(TARGETS, 8)
        assert len(cell.at("last").samples) == 8


def test_the_same_seed_gives_the_same_order():
    assert run(MODES, much(5, 3))[1] == run(MODES, much(5, 3))[1]


def test_rounds_of_a_warm_up_are_found_and_thrown_away():
    class Warming(Rote):
        def new_connections(self, targets, stretch):
            super().new_connections(targets, stretch)
            cold = max(0, 6 - len(self.log)) * 5.0
            return [(10.0 + cold + 0.1 * (len(self.log) % 3), 30.0)] * len(targets)

    cells = sample(POINT, LATENCY, [seat(Warming("ipvs", []))], much(30, 6), seed=1)
    assert {min(cell.blocks) for cell in cells} == {4}
    assert max(cells[0].samples) < 11


class Deaf(Rote):
    """Loses every `n`th connection."""

    def __init__(self, name, log, n):
        super().__init__(name, log)
        self.n, self.count = n, 0

    def new_connections(self, targets, stretch):
        samples = super().new_connections(targets, stretch)
        return [self.lose(sample) for sample in samples]

    def lose(self, sample):
        self.count += 1
        return "no answer in 5 s" if self.count % self.n == 0 else sample


def test_what_got_no_answer_is_counted_and_said():
    said = []
    cells = sample(POINT, LATENCY, [seat(Deaf("ipvs", [], 30))], much(9, 12), seed=1, lost=said.append)
    assert [cell.lost for cell in cells] == [4, 4, 0]
    assert [len(cell.samples) for cell in cells] == [104, 104, 108]
    assert said[0] == "ipvs, 100 Services, First packet: no answer in 5 s"


def test_too_many_without_an_answer_are_a_fault():
    with pytest.raises(TestbedError, match=r"30 of 120 tries failed; that is a fault.*no answer in 5 s"):
        sample(POINT, LATENCY, [seat(Deaf("ipvs", [], 4))], much(10, 12), seed=1)


def test_a_connection_that_ends_loses_its_requests():
    class Ends(Rote):
        def open_connection(self, target, requests, stretch):
            raise ProbeError("closed")

    with pytest.raises(TestbedError, match=r"120 of 120.*closed"):
        sample(POINT, LATENCY, [seat(Ends("ipvs", []))], much(10, 12), seed=1)
