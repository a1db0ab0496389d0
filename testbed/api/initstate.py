"""`Init:1/2`, `Init:Error`: the STATUS of a Pod whose init containers are not through, in kubectl's words."""

from __future__ import annotations

from typing import Any

from testbed.api.cells import condition

Object = dict[str, Any]


def init_status(pod: Object) -> str:
    """What to print in place of the phase; "" when the Pod's own containers are on."""
    if condition(pod, "Initialized") == "True":
        return ""
    specs = {each["name"]: each for each in pod["spec"].get("initContainers") or ()}
    for at, each in enumerate((pod.get("status") or {}).get("initContainerStatuses") or ()):
        state = each.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated")
        if ended and ended.get("exitCode") == 0:
            continue
        sidecar = specs.get(each["name"], {}).get("restartPolicy") == "Always"
        if sidecar and each.get("started"):
            continue
        if ended:
            return f"Init:{ended.get('reason') or 'ExitCode:' + str(ended.get('exitCode'))}"
        if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            return f"Init:{waiting['reason']}"
        return f"Init:{at}/{len(specs)}"
    return ""
