"""IP families of Services: `ipFamilies`, `ipFamilyPolicy` and `clusterIPs`, which depend on one another.

Rules and wording follow `initIPFamilyFields` (pkg/registry/core/service/storage/alloc.go) and
`ValidateServiceClusterIPsRelatedFields` (pkg/apis/core/validation): KEP-563.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from testbed.api.rules import Errors
from testbed.api.status import duplicate, invalid_value
from testbed.model.families import family

Object = dict[str, Any]

FAMILIES = ("IPv4", "IPv6")
SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
POLICIES = (PREFER, REQUIRE, SINGLE)
NO_ADDRESS = ["None"]
"""The clusterIPs of a headless Service."""


def link(spec: Object, before: Object) -> None:
    """What an update leaves out of `clusterIP` and `clusterIPs` is as it was; one changed, the other is."""
    if "ExternalName" in (spec.get("type"), before.get("type")) or not before.get("clusterIPs"):
        return
    first = spec.get("clusterIP") or before["clusterIP"]
    several = spec.get("clusterIPs") or before["clusterIPs"]
    if first != before["clusterIP"] and several == before["clusterIPs"]:
        several = [first]
    spec["clusterIP"], spec["clusterIPs"] = first, several


def settle(spec: Object, before: Object | None, families: Sequence[str]) -> Errors:
    """Fill in policy and families of a Service that has them, on a cluster of `families`; what is wrong.

    `before`: the spec that an update replaces. A Service that goes back to one family loses an address.
    """
    if before and _is_settled(spec, before):
        return []
    headless = spec.get("clusterIPs") == NO_ADDRESS
    alone = headless and not spec.get("selector")
    if not spec.get("ipFamilyPolicy"):
        inherited = (before or {}).get("ipFamilyPolicy")
        spec["ipFamilyPolicy"] = inherited or (REQUIRE if alone else SINGLE)
    errors = _field_errors(spec, headless)
    if errors:
        return errors
    if before:
        errors += _reduce(spec, before)
    errors += _policy_errors(spec) + _infer(spec, headless, families)
    if errors or alone:
        if not errors:
            _complete(spec, families, FAMILIES)
        return errors
    if spec["ipFamilyPolicy"] == REQUIRE and len(families) < 2:
        told = "this cluster is not configured for dual-stack services"
        errors.append(invalid_value("spec.ipFamilyPolicy", REQUIRE, told))
    for at, asked in enumerate(spec.get("ipFamilies") or ()):
        if asked not in families:
            errors.append(invalid_value(f"spec.ipFamilies[{at}]", asked, "not configured on this cluster"))
    if not errors:
        _complete(spec, families, families)
    return errors + (_change_errors(spec, before) if before else [])


def _is_settled(spec: Object, before: Object) -> bool:
    """A PreferDualStack Service stays as it is, should the cluster have got another family meanwhile."""
    same = all(spec.get(field) == before.get(field) for field in ("type", "clusterIPs", "ipFamilies"))
    policies = (spec.get("ipFamilyPolicy"), before.get("ipFamilyPolicy"))
    return same and policies == (PREFER, PREFER) and bool(spec.get("clusterIPs"))


def _complete(spec: Object, families: Sequence[str], possible: Sequence[str]) -> None:
    """The cluster's primary family if none is asked for; and the other one, if two are wished."""
    chosen = list(spec.get("ipFamilies") or families[:1])
    if spec["ipFamilyPolicy"] != SINGLE:
        chosen += [other for other in possible if other not in chosen]
    spec["ipFamilies"] = chosen


def _reduce(spec: Object, before: Object) -> Errors:
    """An update to SingleStack gives up what is second; without that policy nothing may be given up."""
    errors: Errors = []
    for field, what in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
        now, was = spec.get(field) or [], before.get(field) or []
        if spec["ipFamilyPolicy"] == SINGLE:
            if now == was and len(now) > 1:
                spec[field] = now[:1]
        elif len(was) == 2 and len(now) == 1 and now[0] == was[0]:
            told = f"must be 'SingleStack' to release the secondary {what}"
            errors.append(invalid_value("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], told))
    return errors


def _policy_errors(spec: Object) -> Errors:
    if spec["ipFamilyPolicy"] != SINGLE:
        return []
    told = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
    return [
        invalid_value("spec.ipFamilyPolicy", SINGLE, told.format(what))
        for field, what in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families"))
        if len(spec.get(field) or ()) == 2
    ]


def _infer(spec: Object, headless: bool, families: Sequence[str]) -> Errors:
    """The families that the addresses asked for are of."""
    errors: Errors = []
    addresses = [] if headless else spec.get("clusterIPs") or []
    chosen = list(spec.get("ipFamilies") or ())
    for at, text in enumerate(addresses[len(chosen) :], len(chosen)):
        found = _family(text)
        if found in families:
            chosen.append(found)
        else:
            told = f"{found} is not configured on this cluster"
            errors.append(invalid_value(f"spec.clusterIPs[{at}]", addresses, told))
    if chosen and not errors:
        spec["ipFamilies"] = chosen
    return errors


def _field_errors(spec: Object, headless: bool) -> Errors:
    """What is wrong whatever the cluster has. The addresses are known to be addresses."""
    errors: Errors = []
    chosen, addresses = spec.get("ipFamilies") or [], spec.get("clusterIPs") or []
    for at, asked in enumerate(chosen):
        if asked in chosen[:at]:
            errors.append(duplicate(f"spec.ipFamilies[{at}]", asked))
    if headless:
        return errors
    if len(addresses) > 2:
        errors.append(invalid_value("spec.clusterIPs", addresses, "may only hold up to 2 values"))
    if len(addresses) > len({_family(text) for text in addresses}):
        told = "may specify no more than one IP for each IP family"
        errors.append(invalid_value("spec.clusterIPs", addresses, told))
    for at, (text, asked) in enumerate(zip(addresses, chosen, strict=False)):
        if _family(text) != asked:
            told = f"expected an {asked} value as indicated by `ipFamilies[{at}]`"
            errors.append(invalid_value(f"spec.clusterIPs[{at}]", text, told))
    return errors


def _change_errors(spec: Object, before: Object) -> Errors:
    """Addresses and families may be added and given up at the end; the first stays, headless or not."""
    if before.get("type") == "ExternalName":
        return []
    headless = [one.get("clusterIPs") == NO_ADDRESS for one in (before, spec)]
    if all(headless):
        return []
    errors: Errors = []
    for field in ("clusterIPs",) if any(headless) else ("clusterIPs", "ipFamilies"):
        was, now = before.get(field) or [], spec.get(field) or []
        kept = len(was) if len(was) == len(now) else 1
        errors += [
            invalid_value(f"spec.{field}[{at}]", now, "may not change once set")
            for at, (old, new) in enumerate(zip(was[:kept], now, strict=False))
            if old != new
        ]
    return errors


def _family(text: str) -> str:
    return family(ip_address(text).version)
