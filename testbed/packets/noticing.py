"""Which cases are the first to be asked when the agents have a fault: those that it was made for."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

_ENTERING = ("node-port/near/client/*", "external-ip/near/client/*", "load-balancer/near/client/*")
_POLICY = ("*/*-local/client/*",)
_INSIDE = ("cluster-ip/*-inside/*",)
_CHOICE = ("*/all/*/spread/*",)
_POD_TO_POD = ("cluster-ip/near/same-node-pod/*", "cluster-ip/far/other-node-pod/*")
_RANGES = ("load-balancer/closed/*", "load-balancer/guarded/*", "load-balancer/kin/*")
_NOBODY = ("*/none/*",)
_BYSTANDERS = ("pod/*/port-*",)
_SHORT_CUTS = ("*/*-local/*-pod/*", "*/*-local/*node/*")

NOTICED_BY: Mapping[str, tuple[str, ...]] = {
    "internal-policy-ignored": _INSIDE,
    "external-policy-ignored": _POLICY,
    "internal-policy-always-local": _POD_TO_POD,
    "external-policy-always-local": ("node-port/far/client/*",),
    "local-and-cluster-swapped": _POD_TO_POD,
    "local-refused-not-dropped": (*_POLICY, *_INSIDE),
    "nobody-dropped-not-refused": _NOBODY,
    "an-endpoint-forgotten": _CHOICE,
    "wrong-target-port": _POD_TO_POD,
    "no-node-port": _ENTERING,
    "no-external-ips": _ENTERING,
    "no-load-balancer": _ENTERING,
    "no-affinity": ("live/affinity/held/*",),
    "affinity-for-ever": ("live/affinity/forgotten/*",),
    "source-ranges-ignored": _RANGES,
    "first-state-for-ever": ("live/moved/*",),
    "stale-udp-connections-kept": ("live/moved/*udp",),
    # masquerading and hooks
    "strangers-not-masqueraded": ("cluster-ip/*/client/*", "cluster-ip/*/*node/*"),
    "pods-masqueraded": _POD_TO_POD,
    "outside-not-masqueraded": _ENTERING,
    "no-hairpin": ("*/itself/*",),
    "endpoints-always-masqueraded": _POD_TO_POD,
    "nothing-masqueraded": (*_ENTERING, "*/itself/*"),
    "mark-kept": ("node-port/far/client/*",),
    "node-not-hooked": ("cluster-ip/near/node/*",),
    "bystanders-translated": _BYSTANDERS,
    "bystanders-redirected": _BYSTANDERS,
    "node-ports-of-pods": _BYSTANDERS,
    "node-ports-unhooked": _ENTERING,
    "udp-not-translated": _POD_TO_POD,
    # choice
    "first-too-often": _CHOICE,
    "second-always": _CHOICE,
    "probability-left-out": _CHOICE,
    "middle-endpoint-dropped": _CHOICE,
    "by-source": _CHOICE,
    "first-never": _CHOICE,
    # refusals
    "no-refusal-inside": _NOBODY,
    "no-refusal-outside": _NOBODY,
    "no-refusal-of-node-ports": _NOBODY,
    "wrong-refusal": _NOBODY,
    "silent-refusal": _NOBODY,
    "no-drop": (*_POLICY, *_INSIDE),
    "no-drop-outside": _POLICY,
    "no-drop-inside": _INSIDE,
    "invalid-let-through": ("live/invalid/*",),
    # policies, short cuts, source ranges
    "local-goes-everywhere": _POLICY,
    "local-masqueraded": _POLICY,
    "local-balancers-masqueraded": _POLICY,
    "no-short-cut-for-pods": _SHORT_CUTS,
    "no-short-cut-for-nodes": _SHORT_CUTS,
    "short-cut-not-masqueraded": _SHORT_CUTS,
    "everybody-let-in": _RANGES,
    "nobody-let-in": _RANGES,
    "nodes-let-in": _RANGES,
    # IPVS
    "node-ports-not-masqueraded": _ENTERING,
    "udp-node-ports-not-masqueraded": _ENTERING,
    "external-ips-not-masqueraded": _ENTERING,
    "balancers-not-masqueraded": _ENTERING,
    "no-addresses": _POD_TO_POD,
    "udp-not-served": _POD_TO_POD,
    "sctp-not-served": ("cluster-ip/*/sctp",),
    # userspace
    "pods-not-redirected": _POD_TO_POD,
    "nodes-not-redirected": ("cluster-ip/*/node/*",),
    "node-ports-not-redirected": _ENTERING,
    "own-node-ports-not-redirected": ("node-port/*/node/*",),
    "udp-not-redirected": _POD_TO_POD,
}
"""By the fault's name, which means the same in every mode: patterns of cases' names. All other cases are
asked when these see nothing, so that a row which is wrong costs time and no score."""


def notices(fault: str, case: str) -> bool:
    return any(fnmatchcase(case, pattern) for pattern in NOTICED_BY.get(fault, ()))
