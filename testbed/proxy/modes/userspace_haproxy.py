"""userspace mode with HAProxy in place of our data plane, so that readers see what a compiled proxy costs.

Our own data plane serves, in this mode too, what HAProxy cannot: UDP; and clients with affinity, since
HAProxy remembers a client's server only once that has answered: connections made together would part.
"""

from __future__ import annotations

from testbed.model.families import UNSPECIFIED
from testbed.proxy.dataplane.control import Change, Done, Key
from testbed.proxy.dataplane.haproxy import Haproxy
from testbed.proxy.modes.userspace import DataPlane, Plane, Userspace


class UserspaceHaproxy(Userspace):
    title = "userspace (HAProxy)"

    def data_plane(self) -> DataPlane:
        return Shared(Haproxy(UNSPECIFIED[self.options.family]), Plane(self.options))


class Shared:
    """Two data planes as one: plain TCP is HAProxy's, the rest our own's."""

    def __init__(self, haproxy: DataPlane, own: DataPlane) -> None:
        self._haproxy = haproxy
        self._own = own

    @property
    def pid(self) -> int:
        return self._haproxy.pid

    @property
    def alive(self) -> bool:
        return self._haproxy.alive and self._own.alive

    def change(self, change: Change) -> Done:
        done = Done({}, {})
        for plane in (self._haproxy, self._own):
            serve = {key: one for key, one in change.serve.items() if self._plane(key) is plane}
            close = tuple(key for key in change.close if self._plane(key) is plane)
            if serve or close:
                part = plane.change(Change(serve, close))
                done.ports.update(part.ports)
                done.errors.update(part.errors)
        return done

    def close(self) -> None:
        self._haproxy.close()
        self._own.close()

    def _plane(self, key: Key) -> DataPlane:
        return self._haproxy if key.protocol == "TCP" and not key.sticky else self._own
