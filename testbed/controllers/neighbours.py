"""Where a Pod may go because of the Pods that are there: host ports, (anti-)affinity, topology spread. Pure.

Source of the rules: kubernetes pkg/scheduler/framework/plugins: nodeports, interpodaffinity,
podtopologyspread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from testbed.controllers.placement import affine, liking, refusal
from testbed.model.labels import selects

Object = dict[str, Any]
Labels = Mapping[str, str]

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
NO_PORT = "node(s) didn't have free ports for the requested pod ports"
NOT_NEAR = "node(s) didn't match pod affinity rules"
TOO_NEAR = "node(s) didn't match pod anti-affinity rules"
UNWELCOME = "node(s) didn't satisfy existing pods anti-affinity rules"
NOT_SPREAD = "node(s) didn't match pod topology spread constraints"
UNLABELLED = "node(s) didn't match pod topology spread constraints (missing required label)"


@dataclass(frozen=True)
class Surroundings:
    """The nodes, the Pods on each of them (bound, or about to be) by their keys, and the namespaces."""

    nodes: Sequence[Object]
    occupants: Mapping[str, Mapping[str, Object]]
    namespaces: Mapping[str, Object] = field(default_factory=dict)

    def on(self, node: Object) -> Collection[Object]:
        return self.occupants.get(node["metadata"]["name"], {}).values()

    def pods(self) -> Iterator[tuple[Object, Object]]:
        """(Pod, its node)"""
        for node in self.nodes:
            for pod in self.on(node):
                yield pod, node


def is_particular(pod: Object) -> bool:
    """Whether the Pod minds who else is on a node."""
    spec = pod["spec"]
    affinity = spec.get("affinity") or {}
    near = affinity.get("podAffinity") or affinity.get("podAntiAffinity")
    return bool(near or spec.get("topologySpreadConstraints") or host_ports(pod))


def is_repelling(pod: Object) -> bool:
    """Whether other Pods may be kept from the Pod's node on its behalf."""
    return bool(_terms(pod, "podAntiAffinity"))


def host_ports(pod: Object) -> set[tuple[str, str, int]]:
    """(address, protocol, port) that the Pod takes on its node."""
    return {
        (port.get("hostIP") or "0.0.0.0", port.get("protocol", "TCP"), port["hostPort"])
        for container in pod["spec"].get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }


class Neighbours:
    """What `pod` thinks of each node, and what those there think of it."""

    def __init__(self, pod: Object, around: Surroundings) -> None:
        self._pod, self._around = pod, around
        self._ports = host_ports(pod)
        self._near = [self._counted(term, pod) for term in _terms(pod, "podAffinity")]
        self._far = [self._counted(term, pod) for term in _terms(pod, "podAntiAffinity")]
        self._kept_from = self._places_of_the_repelling()
        spread = pod["spec"].get("topologySpreadConstraints") or ()
        self._spread = [Spread(each, pod, around) for each in spread]
        self._wishes = [
            (sign * each["weight"], self._counted(each["podAffinityTerm"], pod))
            for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1))
            for each in _section(pod, kind).get(PREFERRED) or ()
        ]

    def refusal(self, node: Object) -> str:
        """Why the Pod may not go there, in the scheduler's words; "" when it may."""
        labels = node["metadata"].get("labels") or {}
        if self._ports and any(_clash(self._ports, host_ports(p)) for p in self._around.on(node)):
            return NO_PORT
        for key, places in self._near:
            if key not in labels or not (places[labels[key]] or self._is_first(key, places)):
                return NOT_NEAR
        if any(key in labels and places[labels[key]] for key, places in self._far):
            return TOO_NEAR
        if any(labels.get(key) == value for key, value in self._kept_from):
            return UNWELCOME
        for spread in self._spread:
            if why := spread.refusal(labels):
                return why
        return ""

    def preference(self, node: Object) -> int:
        """How much the Pod would like to be there, more is better."""
        labels = node["metadata"].get("labels") or {}
        liked = [weight * places[labels[key]] for weight, (key, places) in self._wishes if key in labels]
        return int(sum(liked)) - sum(spread.crowd(labels) for spread in self._spread)

    def _counted(self, term: Object, owner: Object) -> tuple[str, Counter[str]]:
        """The term's topology key, and for each of its values the Pods there that match."""
        key, wanted = term["topologyKey"], self._matcher(term, owner)
        return key, _count(key, self._around, wanted)

    def _matcher(self, term: Object, owner: Object) -> Callable[[Object], bool]:
        """Whether the term, which is of `owner`, means a Pod."""
        selector = _with_label_keys(term, owner)
        names, chosen = set(term.get("namespaces") or ()), term.get("namespaceSelector")
        if not names and chosen is None:
            names = {owner["metadata"].get("namespace")}

        def means(pod: Object) -> bool:
            namespace = pod["metadata"].get("namespace")
            within = namespace in names
            if not within and chosen is not None:
                labels = self._around.namespaces.get(namespace, {}).get("metadata", {}).get("labels")
                within = selects(chosen, labels or {})
            return within and selects(selector, pod["metadata"].get("labels") or {})

        return means

    def _is_first(self, key: str, places: Counter[str]) -> bool:
        """Nobody matches anywhere, and the Pod itself would: then it may be the first of its kind."""
        if any(places.values()):
            return False
        terms = [term for term in _terms(self._pod, "podAffinity") if term["topologyKey"] == key]
        return all(self._matcher(term, self._pod)(self._pod) for term in terms)

    def _places_of_the_repelling(self) -> set[tuple[str, str]]:
        """(topology key, value) where a Pod is that will not have this one near."""
        found = set()
        for other, node in self._around.pods():
            for term in _terms(other, "podAntiAffinity"):
                value = (node["metadata"].get("labels") or {}).get(term["topologyKey"])
                if value is not None and self._matcher(term, other)(self._pod):
                    found.add((term["topologyKey"], value))
        return found


class Spread:
    """A topology spread constraint of `pod`: how many match in each domain."""

    def __init__(self, constraint: Object, pod: Object, around: Surroundings) -> None:
        self._key, self._skew = constraint["topologyKey"], constraint["maxSkew"]
        self._hard = constraint.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"
        selector, namespace = _with_label_keys(constraint, pod), pod["metadata"].get("namespace")
        own = pod["metadata"].get("labels") or {}
        self._self = int(selects(selector, own))
        honoured = constraint.get("nodeAffinityPolicy", "Honor") == "Honor"
        nodes = [node for node in around.nodes if not honoured or affine(pod, node)]
        kept = Surroundings(nodes, around.occupants)

        def means(other: Object) -> bool:
            same = other["metadata"].get("namespace") == namespace
            return same and selects(selector, other["metadata"].get("labels") or {})

        self._places = _count(self._key, kept, means)
        least = constraint.get("minDomains") or 1
        self._fewest = min(self._places.values(), default=0) if len(self._places) >= least else 0

    def refusal(self, labels: Labels) -> str:
        if not self._hard:
            return ""
        if self._key not in labels:
            return UNLABELLED
        skew = self._places[labels[self._key]] + self._self - self._fewest
        return NOT_SPREAD if skew > self._skew else ""

    def crowd(self, labels: Labels) -> int:
        """How many match already where a node with these labels is, if that is to be few and no more."""
        return 0 if self._hard else self._places[labels.get(self._key, "")]


def _count(key: str, around: Surroundings, wanted: Callable[[Object], bool]) -> Counter[str]:
    """For each value of the topology key that a node has, how many wanted Pods are there (0 too)."""
    found: Counter[str] = Counter()
    for node in around.nodes:
        value = (node["metadata"].get("labels") or {}).get(key)
        if value is not None:
            found[value] += sum(map(wanted, around.on(node)))
    return found


def _section(pod: Object, kind: str) -> Object:
    return (pod["spec"].get("affinity") or {}).get(kind) or {}


def _terms(pod: Object, kind: str) -> Sequence[Object]:
    return _section(pod, kind).get(REQUIRED) or ()


def _with_label_keys(term: Object, owner: Object) -> Object | None:
    """The term's selector, with `matchLabelKeys` bound to the owner's own values."""
    selector, keys = term.get("labelSelector"), term.get("matchLabelKeys") or ()
    labels = owner["metadata"].get("labels") or {}
    bound = {key: labels[key] for key in keys if key in labels}
    if not bound:
        return selector
    return {**(selector or {}), "matchLabels": {**((selector or {}).get("matchLabels") or {}), **bound}}


def _clash(one: Iterable[tuple[str, str, int]], other: Iterable[tuple[str, str, int]]) -> bool:
    """Whether two sets of host ports meet; the wildcard address meets every other."""
    return any((a[1:] == b[1:]) and (a[0] == b[0] or "0.0.0.0" in (a[0], b[0])) for a in one for b in other)


def choose(pod: Object, around: Surroundings, minded: bool) -> tuple[str, list[str]]:
    """The best admissible node, or "" and why not each of them.

    What the Pod prefers comes first, then the fewest Pods, then the name. `minded`: whether who is where
    matters at all; counting is left out when not.
    """
    neighbours = Neighbours(pod, around) if minded else None
    fit: list[tuple[int, int, str]] = []
    reasons = []
    for node in around.nodes:
        name = node["metadata"]["name"]
        why = refusal(pod, node) or (neighbours.refusal(node) if neighbours else "")
        if why:
            reasons.append(why)
        else:
            liked = liking(pod, node) + (neighbours.preference(node) if neighbours else 0)
            fit.append((-liked, len(around.on(node)), name))
    return (min(fit)[2], []) if fit else ("", reasons)
