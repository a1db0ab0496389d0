"""userspace mode with HAProxy in place of our data plane, so that readers see what a compiled proxy costs.

HAProxy knows no plain UDP: those Services are served by our own data plane, in this mode too.
"""

from __future__ import annotations

from testbed.model.families import UNSPECIFIED
from testbed.proxy.dataplane.control import Change, Done
from testbed.proxy.dataplane.haproxy import Haproxy
from testbed.proxy.modes.userspace import DataPlane, Plane, Userspace


class UserspaceHaproxy(Userspace):
    title = "userspace (HAProxy)"

    def data_plane(self) -> DataPlane:
        return ByProtocol({"TCP": Haproxy(UNSPECIFIED[self.options.family]), "UDP": Plane(self.options)})


class ByProtocol:
    """Several data planes as one: each serves the listeners of its protocol."""

    def __init__(self, planes: dict[str, DataPlane]) -> None:
        self._planes = planes

    @property
    def pid(self) -> int:
        """The one that serves TCP."""
        return self._planes["TCP"].pid

    @property
    def alive(self) -> bool:
        return all(plane.alive for plane in self._planes.values())

    def change(self, change: Change) -> Done:
        done = Done({}, {})
        for protocol, plane in self._planes.items():
            serve = {key: one for key, one in change.serve.items() if key[1] == protocol}
            close = tuple(key for key in change.close if key[1] == protocol)
            if serve or close:
                part = plane.change(Change(serve, close))
                done.ports.update(part.ports)
                done.errors.update(part.errors)
        return done

    def close(self) -> None:
        for plane in self._planes.values():
            plane.close()
