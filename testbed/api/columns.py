"""What `kubectl get` shows of each kind: the columns of the server's Table answers.

As k8s.io/kubernetes `pkg/printers/internalversion/printers.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from testbed.api.cells import NONE, UNKNOWN, Column, age, at, condition, duration, joined, selector
from testbed.api.initstate import init_status

Object = dict[str, Any]

NAME = Column("Name", at("metadata.name"))
AGE = Column("Age", lambda obj: age(obj["metadata"].get("creationTimestamp")))


# -- Pods


def _container_statuses(pod: Object) -> list[Object]:
    return (pod.get("status") or {}).get("containerStatuses") or []


def _ready(pod: Object) -> str:
    ready = sum(1 for each in _container_statuses(pod) if each.get("ready"))
    return f"{ready}/{len(pod['spec'].get('containers') or ())}"


def _pod_status(pod: Object) -> str:
    status = pod.get("status") or {}
    reason = str(status.get("reason") or status.get("phase") or "Unknown")
    for each in reversed(_container_statuses(pod)):
        state = each.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated:
            reason = terminated.get("reason") or (
                f"Signal:{terminated['signal']}"
                if terminated.get("signal")
                else f"ExitCode:{terminated.get('exitCode', 0)}"
            )
    if pod["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return init_status(pod) or reason


def _restarts(pod: Object) -> str:
    statuses = _container_statuses(pod)
    total = sum(each.get("restartCount", 0) for each in statuses)
    ends = [
        ended["finishedAt"]
        for each in statuses
        if (ended := (each.get("lastState") or {}).get("terminated")) and ended.get("finishedAt")
    ]
    return f"{total} ({age(max(ends))} ago)" if total and ends else str(total)


def _gates(pod: Object) -> str:
    gates = pod["spec"].get("readinessGates") or ()
    true = sum(1 for gate in gates if condition(pod, gate.get("conditionType", "")) == "True")
    return f"{true}/{len(gates)}" if gates else NONE


PODS = (
    NAME,
    Column("Ready", _ready),
    Column("Status", _pod_status),
    Column("Restarts", _restarts),
    AGE,
    Column("IP", at("status.podIP", NONE), wide=True),
    Column("Node", at("spec.nodeName", NONE), wide=True),
    Column("Nominated Node", at("status.nominatedNodeName", NONE), wide=True),
    Column("Readiness Gates", _gates, wide=True),
)


# -- Services and their endpoints


def _external(service: Object) -> str:
    spec = service["spec"]
    listed = list(spec.get("externalIPs") or ())
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName") or NONE)
    if spec.get("type") == "LoadBalancer":
        ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        listed = [each.get("ip") or each.get("hostname") for each in ingress] + listed
        return ",".join(listed) or "<pending>"
    return joined(listed)


def _service_ports(service: Object) -> str:
    return joined(
        f"{port['port']}:{port['nodePort']}/{port['protocol']}"
        if port.get("nodePort")
        else f"{port['port']}/{port['protocol']}"
        for port in service["spec"].get("ports") or ()
    )


SERVICES = (
    NAME,
    Column("Type", at("spec.type")),
    Column("Cluster-IP", at("spec.clusterIP", NONE)),
    Column("External-IP", _external),
    Column("Port(s)", _service_ports),
    AGE,
    Column("Selector", lambda obj: selector(obj["spec"].get("selector")), wide=True),
)


def _endpoint_list(obj: Object) -> str:
    found = []
    for subset in obj.get("subsets") or ():
        for address in subset.get("addresses") or ():
            ports = subset.get("ports") or ()
            found += [f"{address['ip']}:{port['port']}" for port in ports] or [address["ip"]]
    return joined(found, limit=3)


ENDPOINTS = (NAME, Column("Endpoints", _endpoint_list), AGE)


def _slice_ports(obj: Object) -> str:
    ports = obj.get("ports") or ()
    return joined((port.get("port") or "*" for port in ports), limit=3) if ports else "<unset>"


def _slice_addresses(obj: Object) -> str:
    found = [address for each in obj.get("endpoints") or () for address in each.get("addresses") or ()]
    return joined(found, limit=3) if found else "<unset>"


ENDPOINT_SLICES = (
    NAME,
    Column("AddressType", at("addressType")),
    Column("Ports", _slice_ports),
    Column("Endpoints", _slice_addresses),
    AGE,
)


# -- Nodes and namespaces


def _node_status(node: Object) -> str:
    ready = condition(node, "Ready")
    word = {"True": "Ready", "": "Unknown"}.get(ready, "NotReady")
    return f"{word},SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else word


def _roles(node: Object) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels") or {}
    return joined(sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix)))


def _node_address(kind: str) -> Callable[[Object], str]:
    def cell(node: Object) -> str:
        addresses = (node.get("status") or {}).get("addresses") or ()
        return next((each["address"] for each in addresses if each["type"] == kind), NONE)

    return cell


NODES = (
    NAME,
    Column("Status", _node_status),
    Column("Roles", _roles),
    AGE,
    Column("Version", at("status.nodeInfo.kubeletVersion")),
    Column("Internal-IP", _node_address("InternalIP"), wide=True),
    Column("External-IP", _node_address("ExternalIP"), wide=True),
    Column("OS-Image", at("status.nodeInfo.osImage", UNKNOWN), wide=True),
    Column("Kernel-Version", at("status.nodeInfo.kernelVersion", UNKNOWN), wide=True),
    Column("Container-Runtime", at("status.nodeInfo.containerRuntimeVersion", UNKNOWN), wide=True),
)
NAMESPACES = (NAME, Column("Status", at("status.phase")), AGE)


# -- workloads


def _template_containers(field: str) -> Callable[[Object], str]:
    def cell(obj: Object) -> str:
        return joined(each.get(field, "") for each in obj["spec"]["template"]["spec"].get("containers") or ())

    return cell


_TEMPLATE = (
    Column("Containers", _template_containers("name"), wide=True),
    Column("Images", _template_containers("image"), wide=True),
    Column("Selector", lambda obj: selector(obj["spec"].get("selector")), wide=True),
)


def _count(name: str, path: str) -> Column:
    return Column(name, at(path, 0), type="integer")


def _ready_of(obj: Object) -> str:
    return f"{at('status.readyReplicas', 0)(obj)}/{at('spec.replicas', 0)(obj)}"


DEPLOYMENTS = (
    NAME,
    Column("Ready", _ready_of),
    _count("Up-to-date", "status.updatedReplicas"),
    _count("Available", "status.availableReplicas"),
    AGE,
    *_TEMPLATE,
)
REPLICA_SETS = (
    NAME,
    _count("Desired", "spec.replicas"),
    _count("Current", "status.replicas"),
    _count("Ready", "status.readyReplicas"),
    AGE,
    *_TEMPLATE,
)
DAEMON_SETS = (
    NAME,
    _count("Desired", "status.desiredNumberScheduled"),
    _count("Current", "status.currentNumberScheduled"),
    _count("Ready", "status.numberReady"),
    _count("Up-to-date", "status.updatedNumberScheduled"),
    _count("Available", "status.numberAvailable"),
    Column("Node Selector", lambda obj: selector(obj["spec"]["template"]["spec"].get("nodeSelector"))),
    AGE,
    *_TEMPLATE,
)
STATEFUL_SETS = (NAME, Column("Ready", _ready_of), AGE, *_TEMPLATE[:2])


def _controller(obj: Object) -> str:
    owner = next((o for o in obj["metadata"].get("ownerReferences") or () if o.get("controller")), None)
    if owner is None:
        return NONE
    group = str(owner.get("apiVersion") or "").rpartition("/")[0]
    return f"{owner['kind'].lower()}{'.' + group if group else ''}/{owner['name']}"


CONTROLLER_REVISIONS = (
    NAME,
    Column("Controller", _controller),
    Column("Revision", at("revision", 0), type="integer"),
    AGE,
)


def _job_status(job: Object) -> str:
    for kind, word in (("Complete", "Complete"), ("Failed", "Failed"), ("Suspended", "Suspended")):
        if condition(job, kind) == "True":
            return word
    return "Terminating" if job["metadata"].get("deletionTimestamp") else "Running"


def _job_duration(job: Object) -> str:
    status = job.get("status") or {}
    if not status.get("startTime"):
        return ""
    started = datetime.fromisoformat(status["startTime"].replace("Z", "+00:00"))
    ended = status.get("completionTime")
    end = datetime.fromisoformat(ended.replace("Z", "+00:00")) if ended else datetime.now(UTC)
    return duration(int((end - started).total_seconds()))


JOBS = (
    NAME,
    Column("Status", _job_status),
    Column("Completions", lambda obj: f"{at('status.succeeded', 0)(obj)}/{at('spec.completions', 1)(obj)}"),
    Column("Duration", _job_duration),
    AGE,
    *_TEMPLATE,
)


# -- the rest


def _data_count(obj: Object) -> int:
    return len(obj.get("data") or ()) + len(obj.get("binaryData") or ())


CONFIG_MAPS = (NAME, Column("Data", _data_count, type="integer"), AGE)
SECRETS = (NAME, Column("Type", at("type")), Column("Data", _data_count, type="integer"), AGE)
SERVICE_ACCOUNTS = (
    NAME,
    Column("Secrets", lambda obj: len(obj.get("secrets") or ()), type="integer"),
    AGE,
)


def _event_object(event: Object) -> str:
    involved = event.get("involvedObject") or event.get("regarding") or {}
    return f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"


def _last_seen(event: Object) -> str:
    metadata = event["metadata"]
    stamps = (event.get("lastTimestamp"), event.get("eventTime"), metadata.get("creationTimestamp"))
    return age(next((stamp for stamp in stamps if stamp), None))


EVENTS = (
    Column("Last Seen", _last_seen),
    Column("Type", at("type")),
    Column("Reason", at("reason")),
    Column("Object", _event_object),
    Column("Source", at("source.component"), wide=True),
    Column("Message", lambda obj: obj.get("message") or obj.get("note") or ""),
    Column("Count", at("count", 1), wide=True, type="integer"),
    Column("Name", at("metadata.name"), wide=True),
)
LEASES = (NAME, Column("Holder", at("spec.holderIdentity")), AGE)
PLAIN = (NAME, AGE)
