"""A run between the machines of a fleet: one mode after the other on the same machines, in random order.

Where nodes are machines there is no node for each column. Both machines that a packet passes run a mode, then
the next; after each switch direct connections are taken by turns with those through a Service, so what the
machines do meanwhile hits both.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from testbed.bench import agents, prober
from testbed.bench.columns import DIRECT, OWN, VARIANTS, Column
from testbed.bench.environments import FLEET
from testbed.bench.fleet_site import FleetSite, Scene, staged
from testbed.bench.latency import LATENCY, connected, requested, spread_over
from testbed.bench.measures import count_of
from testbed.bench.plan import OTHER_NODE, Plan
from testbed.bench.prober import Address, Visited
from testbed.bench.progress import Progress
from testbed.bench.record import Cell, Run
from testbed.bench.sampling import Point, Samples, cell, rounds
from testbed.bench.stage import BACKENDS
from testbed.bench.statistics import median
from testbed.bench.taking import Sample
from testbed.bench.waiting import silent
from testbed.errors import TestbedError, UsageError

KNOWN = tuple(measure.name for measure in LATENCY.measures)
"""What can be measured between machines."""

AGENT_SECONDS = 100.0
"""That agents have to sync after their start, and a Service to answer."""

NOTICED = 45.0
"""Seconds after which the API server knows that a machine is lost (control_plane_grace)."""

UP, PER_SERVICE, SWITCH, VISIT = 20.0, 0.05, 6.0, 0.3
"""Guessed seconds of work, for the time left: the Pods; a Service; a switch; a visit."""

FACTS = {
    "virtual": "systemd-detect-virt --vm 2>/dev/null || true",
    "processor": "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1",
    "CPUs": "nproc",
    "iptables": "iptables --version",
    "nftables": "nft --version",
    "backend": "nginx -v 2>&1 | sed 's/^nginx version: //'",
}
"""What a figure depends on, and the command that tells it on the client's machine."""

ENGINES = {"qemu": "QEMU TCG", "kvm": "KVM", "none": ""}
"""What systemd-detect-virt calls some engines, in our words; others keep its own."""


def measurable(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns, which a fleet's own agents must be able to run. Raises UsageError."""
    for column in columns:
        if column.mode == OWN or column.name in VARIANTS:
            raise UsageError(
                f"{column.name}: machines of a fleet run their own agent, with the iptables that they have; "
                "leave it out, or measure this machine: --env native"
            )
    return tuple(columns)


@dataclass(frozen=True)
class Seat:
    """A column and its targets by their position in the list; None is direct."""

    column: Column | None
    targets: dict[str, Address]

    @property
    def name(self) -> str:
        return self.column.name if self.column else DIRECT

    def samples(self, positions: Sequence[str], visited: Visited) -> Iterator[Sample]:
        """What a visit gave."""
        timed, kept = visited
        yield from connected(self.column, positions, timed)
        for position, target in self.targets.items():
            yield from requested(position, kept[target], positions.count(position))


@dataclass
class Collector:
    """What a run has so far. `keep` is given the run after each size, so that little is lost with it."""

    plan: Plan
    site: FleetSite
    keep: Callable[[Run], None] = lambda _: None
    cells: list[Cell] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    overhead: dict[str, float] = field(default_factory=dict)
    mode: str = ""
    """What the machines were last switched to."""

    def __post_init__(self) -> None:
        profile = self.plan.profile
        self.block = SWITCH + 2 * VISIT * (profile.turns + 1)
        blocks = profile.switches * len(self.plan.columns) * len(self.plan.sizes)
        self.progress = Progress(
            f"bench ({FLEET})", UP + PER_SERVICE * self.plan.sizes[-1] + self.block * blocks
        )

    def run(self) -> Run:
        """Everything so far."""
        return Run(
            FLEET,
            self.facts,
            self._method(),
            self.overhead,
            tuple(one for one in self.cells if one.measure in self.plan.measures),
            self.plan.to_json(),
        )

    def _method(self) -> dict[str, Any]:
        profile = self.plan.profile
        return {
            "profile": profile.name,
            "switches to each mode": profile.switches,
            "turns after each": profile.turns,
            "samples a turn": profile.samples,
            "seed": self.plan.seed,
            "backends": BACKENDS,
            "client on": self.site.client.name,
            "backends on": self.site.server.name,
        }

    def collect(self) -> Run:
        """Measure at each size. The run's namespace goes at the end; the agents are the site's to set back.

        Raises TestbedError, which names machines that were lost meanwhile.
        """
        try:
            with staged(self.site, self.progress.step) as scene:
                self.progress.advance(UP)
                self.facts |= facts(self.site)
                costs = scene.place.call(prober.overhead, 200)
                self.overhead = {what: median(values) for what, values in costs.items()}
                for size in self.plan.sizes:
                    if (size, 1) not in self.plan.done:
                        self._at(scene, size)
                        self._look()
                        self.keep(self.run())
        except TestbedError as error:
            self.progress.step(f"{error}; was a machine lost?")
            lost = ", ".join(f"{one.name} was lost ({one.why})" for one in self.site.lost(NOTICED))
            if not lost:
                raise
            raise TestbedError(
                f"{lost}: {error}; run it again to measure between those that are left"
            ) from None
        return self.run()

    def _look(self) -> None:
        """Name the machines that were lost and that no packet of this run passes: it goes on without them."""
        for member in self.site.lost():
            told = f"{member.name}: {member.why}"
            if told not in self.facts.get("lost", ""):
                self.facts["lost"] = "; ".join(filter(None, [self.facts.get("lost"), told]))
                self.progress.step(f"{member.name} was lost and is left out: {member.why}")

    def _at(self, scene: Scene, size: int) -> None:
        count = count_of(size)
        self.progress.step(f"{count}: writing them")
        scene.grow(size)
        self.mode = ""  # an agent that starts has all Services in its first sync
        source = random.Random(f"{self.plan.seed} {size}")
        taken: dict[tuple[str, str], Samples] = defaultdict(Samples)
        for number, order in enumerate(rounds(self.plan.profile.switches, self.plan.columns, source)):
            for column in order:
                self.progress.step(f"{count}, round {number + 1}: {column.name}")
                self._switch(scene, column)
                self._block(scene, column, number, source, taken)
                self.progress.advance(self.block)
        point = Point(FLEET, size, 1)
        self.cells += [
            cell(point, measure, OTHER_NODE, name, taken[measure, name])
            for measure in KNOWN
            for name in self.plan.names
        ]

    def _switch(self, scene: Scene, column: Column) -> None:
        """Have both machines run a mode; returns when nothing but it can be what answers."""
        if column.mode == self.mode:
            return
        self.mode = ""
        self.site.agents.set_proxy(column.mode)
        nodes = {member.address: member.name for member in (self.site.client, self.site.server)}
        late = scene.place.call(agents.in_charge, list(nodes), column.mode, AGENT_SECONDS)
        if late:
            names = ", ".join(nodes[address] for address in late)
            raise TestbedError(
                f"{column.name}: the agent of {names} has not synced after {AGENT_SECONDS:g} s; "
                "/var/log/kube-proxy.log there says why"
            )
        self.mode = column.mode

    def _block(
        self,
        scene: Scene,
        column: Column,
        number: int,
        source: random.Random,
        taken: dict[tuple[str, str], Samples],
    ) -> None:
        """Direct and a column visited by turns. The first turn fills caches and is not kept."""
        profile = self.plan.profile
        seats = [Seat(None, scene.direct), Seat(column, scene.targets(column))]
        for seat in seats:
            for host, port in scene.place.call(silent, list(seat.targets.values()), AGENT_SECONDS):
                raise TestbedError(f"{seat.name}: {host}:{port} does not answer after {AGENT_SECONDS:g} s")
        visits = [
            (seat, spread_over(seat.targets, profile.samples, source))
            for _ in range(profile.turns + 1)
            for seat in source.sample(seats, len(seats))
        ]
        timed = scene.place.call(
            prober.by_turns, [[seat.targets[name] for name in positions] for seat, positions in visits]
        )
        for (seat, positions), visited in list(zip(visits, timed, strict=True))[len(seats) :]:
            for one in seat.samples(positions, visited):
                taken[one.measure.name, seat.name].add(one, number)
                if isinstance(one.value, str):
                    self.progress.step(f"{seat.name}, {one.measure.title}: {one.value}")


def facts(site: FleetSite) -> dict[str, str]:
    """What of the machines a figure depends on, and what each of them is."""
    script = "; ".join(f'echo "{name}=$({command})"' for name, command in FACTS.items())
    lines = site.agents.run(site.client.name, ["sh", "-c", script]).splitlines()
    said = {name: value.strip() for name, _, value in (line.partition("=") for line in lines)}
    virtual, cpus = said.pop("virtual", ""), said.pop("CPUs", "")
    kernels = dict.fromkeys(member.kernel for member in (site.client, site.server))
    part = {site.client.name: " (client)", site.server.name: " (backends)"}
    ready = [one for one in site.nodes if one.ready]
    return {
        "engine": ENGINES.get(virtual, virtual),
        "kernel": "Linux " + " and ".join(kernels),
        **said,
        "processor": f"{said.get('processor', '')}, {cpus} CPUs",
        "machines": ", ".join(f"{one.name}{part.get(one.name, '')} {one.kernel}" for one in ready),
        "left out": "; ".join(f"{one.name}: {one.why}" for one in site.nodes if not one.ready),
    }
