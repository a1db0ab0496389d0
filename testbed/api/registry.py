"""The table of kinds: a kind is a row. Adding one is adding a row, with hooks where it differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from testbed.api import (
    budgets,
    certificates,
    cluster,
    columns,
    networking,
    pods,
    policy,
    rules,
    service_cidrs,
    services,
    workloads,
)
from testbed.api.cells import Column
from testbed.api.rules import Errors, NameRule
from testbed.api.store import EMPTY
from testbed.model import resources
from testbed.model.resources import Resource

Object = dict[str, Any]


def _no_defaults(obj: Object) -> None:
    """Nothing is filled in."""


def _no_errors(obj: Object, old: Object | None) -> Errors:
    return []


VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Kind:
    """How the server treats a kind.

    `defaults` fills in what depends on something (the rest is in the table of fields), `validate` judges an
    object beside its old version (None on create). `fields` are the paths that field selectors may use
    besides name and namespace. `spec` kinds count changes in
    metadata.generation; `status` kinds have a status subresource, and a create starts with `first_status`
    (None: the creator's own status is kept).
    `attributed` kinds say in their spec who created them, whatever the creator says.
    A kind that can only be created is a question: it is answered, not stored.
    `stored_as`: the kind whose objects these are, in other words; `renames` says which field is called what.
    """

    resource: Resource
    columns: tuple[Column, ...] = columns.PLAIN
    defaults: Callable[[Object], None] = _no_defaults
    validate: Callable[[Object, Object | None], Errors] = _no_errors
    name_rule: NameRule = rules.dns_subdomain
    fields: tuple[str, ...] = ()
    spec: bool = False
    status: bool = False
    first_status: Mapping[str, Any] | None = field(default_factory=dict)
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    unwritten: str = ""
    """Why nobody may write such objects, and what to do."""
    attributed: bool = False
    stored_as: Resource | None = None
    renames: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The kind's name in the store."""
        return (self.stored_as or self.resource).qualified

    @property
    def selectable(self) -> frozenset[str]:
        return frozenset(("metadata.name", "metadata.namespace", *self.fields))

    @property
    def parts(self) -> tuple[str, ...]:
        """All subresources."""
        return (*(["status"] if self.status else []), *self.subresources)


def _workload(
    kind: Resource,
    columns: tuple[Column, ...],
    defaults: Callable[[Object], None] = workloads.defaults,
    validate: Callable[[Object, Object | None], Errors] = workloads.always_restarts,
    parts: tuple[str, ...] = ("scale",),
    fields: tuple[str, ...] = (),
    counts: tuple[str, ...] = (),
) -> Kind:
    """A kind that makes Pods. `counts`: what its status begins with, all 0."""
    row = Kind(kind, columns, defaults, validate, fields=fields, spec=True, status=True, subresources=parts)
    return replace(row, first_status=dict.fromkeys(counts, 0))


def _question(group: str, kind: str, *, local: bool = False) -> Kind:
    return Kind(Resource(group, "v1", f"{kind.lower()}s", kind, namespaced=local), verbs=("create",))


POD_SPEC_FIELDS = ("nodeName", "restartPolicy", "schedulerName", "serviceAccountName", "hostNetwork")
POD_FIELDS = (
    *(f"spec.{each}" for each in POD_SPEC_FIELDS),
    *(f"status.{each}" for each in ("phase", "podIP", "nominatedNodeName")),
)
INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
EVENT_FIELDS = (
    *(f"involvedObject.{each}" for each in INVOLVED),
    "reason",
    "reportingComponent",
    "source",
    "type",
)
NEWER_EVENTS = Resource("events.k8s.io", "v1", "events", "Event", short_names=("ev",))
NEWER_FIELDS = ("reason", "type", "regarding.name", "regarding.namespace", "regarding.kind")
NEWER_WORDS = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
DAEMON_COUNTS = ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady")
WHY_NO_ADDRESS = "IPAddresses follow from the Services that have them: create a Service with this clusterIP"
AUTHORIZATION, AUTHENTICATION = "authorization.k8s.io", "authentication.k8s.io"

KINDS: tuple[Kind, ...] = (
    Kind(
        resources.PODS,
        columns.PODS,
        pods.defaults,
        pods.validate,
        fields=POD_FIELDS,
        status=True,
        subresources=("attach", "binding", "eviction", "exec", "log", "portforward"),
    ),
    Kind(
        resources.SERVICES,
        columns.SERVICES,
        services.defaults,
        services.validate,
        rules.dns_1035_label,
        fields=("spec.clusterIP", "spec.type"),
        status=True,
    ),
    Kind(resources.ENDPOINTS, columns.ENDPOINTS, validate=cluster.endpoints_errors),
    Kind(
        resources.ENDPOINT_SLICES,
        columns.ENDPOINT_SLICES,
        validate=cluster.slice_errors,
        spec=True,
    ),
    Kind(
        resources.NODES,
        columns.NODES,
        cluster.node_defaults,
        cluster.node_errors,
        fields=("spec.unschedulable",),
        status=True,
        first_status=None,
    ),
    Kind(
        resources.NAMESPACES,
        columns.NAMESPACES,
        cluster.namespace_defaults,
        name_rule=rules.dns_label,
        fields=("status.phase",),
        status=True,
        subresources=("finalize",),
    ),
    Kind(resources.CONFIG_MAPS, columns.CONFIG_MAPS, validate=cluster.config_map_errors),
    Kind(
        resources.SECRETS, columns.SECRETS, cluster.secret_defaults, cluster.secret_errors, fields=("type",)
    ),
    Kind(resources.SERVICE_ACCOUNTS, columns.SERVICE_ACCOUNTS, subresources=("token",)),
    Kind(resources.EVENTS, columns.EVENTS, fields=EVENT_FIELDS),
    Kind(NEWER_EVENTS, columns.EVENTS, fields=NEWER_FIELDS, stored_as=resources.EVENTS, renames=NEWER_WORDS),
    _workload(
        resources.REPLICATION_CONTROLLERS,
        columns.REPLICA_SETS,
        workloads.replication_controller_defaults,
        workloads.replication_controller_errors,
        fields=("status.replicas",),
        counts=("replicas",),
    ),
    _workload(resources.DEPLOYMENTS, columns.DEPLOYMENTS),
    _workload(
        resources.REPLICA_SETS,
        columns.REPLICA_SETS,
        fields=("status.replicas",),
        counts=("replicas",),
    ),
    _workload(
        resources.DAEMON_SETS,
        columns.DAEMON_SETS,
        parts=(),
        counts=DAEMON_COUNTS,
    ),
    _workload(
        resources.STATEFUL_SETS,
        columns.STATEFUL_SETS,
        validate=workloads.stateful_set_errors,
        counts=("replicas", "availableReplicas"),
    ),
    Kind(
        resources.CONTROLLER_REVISIONS,
        columns.CONTROLLER_REVISIONS,
        validate=workloads.controller_revision_errors,
    ),
    _workload(
        resources.JOBS,
        columns.JOBS,
        workloads.job_defaults,
        workloads.job_errors,
        parts=(),
        fields=("status.successful",),
    ),
    Kind(resources.LEASES, columns.LEASES),
    Kind(
        resources.INGRESSES,
        networking.INGRESS_COLUMNS,
        validate=networking.ingress_errors,
        spec=True,
        status=True,
        first_status={"loadBalancer": {}},
    ),
    Kind(resources.INGRESS_CLASSES, networking.CLASS_COLUMNS, validate=networking.class_errors, spec=True),
    Kind(
        resources.CERTIFICATE_SIGNING_REQUESTS,
        certificates.COLUMNS,
        validate=certificates.errors,
        fields=("spec.signerName",),
        status=True,
        subresources=("approval",),
        attributed=True,
    ),
    Kind(
        resources.SERVICE_CIDRS,
        networking.CIDR_COLUMNS,
        service_cidrs.defaults,
        service_cidrs.errors,
        status=True,
        first_status=None,
    ),
    Kind(
        resources.IP_ADDRESSES,
        networking.ADDRESS_COLUMNS,
        verbs=("get", "list", "watch"),
        unwritten=WHY_NO_ADDRESS,
    ),
    Kind(
        resources.POD_DISRUPTION_BUDGETS,
        budgets.COLUMNS,
        validate=budgets.validate,
        spec=True,
        status=True,
    ),
    *(
        Kind(each, policy.ROLE_COLUMNS, validate=policy.role_errors, name_rule=rules.path_segment)
        for each in (resources.ROLES, resources.CLUSTER_ROLES)
    ),
    *(
        Kind(each, policy.BINDING_COLUMNS, policy.binding_defaults, policy.binding_errors, rules.path_segment)
        for each in (resources.ROLE_BINDINGS, resources.CLUSTER_ROLE_BINDINGS)
    ),
    _question(AUTHORIZATION, "SelfSubjectAccessReview"),
    _question(AUTHORIZATION, "SubjectAccessReview"),
    _question(AUTHORIZATION, "LocalSubjectAccessReview", local=True),
    _question(AUTHORIZATION, "SelfSubjectRulesReview"),
    _question(AUTHENTICATION, "SelfSubjectReview"),
    _question(AUTHENTICATION, "TokenReview"),
)

BY_ID: Mapping[str, Kind] = {kind.id: kind for kind in KINDS if not kind.stored_as}
BY_PATH: Mapping[tuple[str, str, str], Kind] = {
    (kind.resource.group, kind.resource.version, kind.resource.plural): kind for kind in KINDS
}


def index(kind_id: str, obj: Object) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """What selectors look at: the labels of an object, and its selectable fields."""
    paths = BY_ID[kind_id].fields
    return obj["metadata"].get("labels") or EMPTY, {
        path: _text(obj, path) for path in paths
    } if paths else EMPTY


def derive(kind_id: str, obj: Object) -> Iterator[tuple[str, tuple[str, str], Object]]:
    """The objects (kind, key, object) that are there because another is: the addresses of a Service."""
    if kind_id == resources.SERVICES.qualified:
        for address in networking.addresses_of(obj):
            yield resources.IP_ADDRESSES.qualified, ("", address["metadata"]["name"]), address


def _text(obj: Object, path: str) -> str:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "false" if path in ("spec.unschedulable", "spec.hostNetwork") else ""
    return str(value)
