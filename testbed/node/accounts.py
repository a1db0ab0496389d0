"""A Pod's service account: token, authority to trust and namespace, in the place where clients look."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from testbed.client import Client
from testbed.model.resources import SERVICE_ACCOUNTS

Object = dict[str, Any]

DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME = "kube-api-access"
SECONDS = 3607
"""How long a token of the automatic volume lasts: an hour, and the seconds by which Kubernetes tells them."""
RENEWED_AFTER = 0.8
"""Part of its life after which a token is replaced, as the kubelet does."""

SOURCES: list[Object] = [
    {"serviceAccountToken": {"expirationSeconds": SECONDS, "path": "token"}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
]


def furnished(pod: Object) -> Object:
    """The Pod with the volume of its service account in each container that has nothing at that place.

    Elsewhere admission writes it into the Pod; here the node knows better which programs would ever look.
    """
    spec = pod["spec"]
    if spec.get("automountServiceAccountToken") is False:
        return pod
    volume = {"name": VOLUME, "projected": {"sources": SOURCES, "defaultMode": 0o644}}
    lists = {
        key: [_mounted(each) for each in spec[key]] for key in ("containers", "initContainers") if key in spec
    }
    return {**pod, "spec": {**spec, **lists, "volumes": [*(spec.get("volumes") or ()), volume]}}


def _mounted(container: Object) -> Object:
    mounts = container.get("volumeMounts") or []
    if any(mount["mountPath"].rstrip("/") == DIRECTORY for mount in mounts):
        return container
    return {
        **container,
        "volumeMounts": [*mounts, {"name": VOLUME, "mountPath": DIRECTORY, "readOnly": True}],
    }


class Tokens:
    """The tokens of a node's Pods, asked for at the API and renewed in time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held: dict[tuple[str, str, int], tuple[str, float]] = {}

    async def of(self, pod: Object, audience: str, seconds: int) -> str:
        """A token bound to the Pod, with at least a fifth of its life to come. Raises ApiError."""
        metadata = pod["metadata"]
        place = (metadata["uid"], audience, seconds)
        token, renewal = self._held.get(place, ("", 0.0))
        if time.time() < renewal:
            return token
        names = {key: metadata[key] for key in ("name", "uid")}
        spec: Object = {
            "expirationSeconds": seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", **names},
        }
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {
                "name": pod["spec"].get("serviceAccountName") or "default",
                "namespace": metadata["namespace"],
            },
            "spec": spec | ({"audiences": [audience]} if audience else {}),
        }
        status = (await self._client.create(SERVICE_ACCOUNTS, request, subresource="token"))["status"]
        ends = datetime.fromisoformat(status["expirationTimestamp"]).timestamp()
        now = time.time()
        self._held[place] = (status["token"], now + RENEWED_AFTER * (ends - now))
        return str(status["token"])

    def forget(self, uid: str) -> None:
        """The Pod has gone."""
        self._held = {place: held for place, held in self._held.items() if place[0] != uid}
