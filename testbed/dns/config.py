"""Who answers for names outside the cluster, as the ConfigMap `kube-dns` in kube-system says.

Its form is that of Kubernetes' own "Customizing DNS Service": `stubDomains`, a JSON object of lists, and
`upstreamNameservers`, a JSON list; a server is ADDRESS[:PORT].
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from testbed.dns.server import Upstream
from testbed.errors import UsageError


def upstreams(data: Mapping[str, str]) -> list[Upstream]:
    """Those of a ConfigMap's data. Raises UsageError that names the key."""
    found = []
    for domain, servers in _read(data, "stubDomains", dict).items():
        found += [_upstream("stubDomains", domain, each) for each in servers]
    for each in _read(data, "upstreamNameservers", list):
        found.append(_upstream("upstreamNameservers", "", each))
    return found


def _read(data: Mapping[str, str], key: str, form: type) -> Any:
    text = data.get(key) or json.dumps(form())
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{key}: not JSON: {error}") from None
    if not isinstance(value, form) or not all(isinstance(each, list) for each in _lists(value)):
        raise UsageError(f"{key}: {text!r} is not a JSON {'object of lists' if form is dict else 'list'}")
    return value


def _lists(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []


def _upstream(key: str, domain: str, place: Any) -> Upstream:
    text = str(place)
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"  # an IPv6 address without a port
    try:
        return Upstream.parse(f"{domain}={text}")
    except UsageError:
        raise UsageError(f"{key}: {place!r} is not ADDRESS[:PORT]") from None
