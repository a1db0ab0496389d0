"""The kinds of the Kubernetes API that the testbed knows by name, and their URL paths.

What a client needs to address a kind. How the API server treats it is in `testbed.api.registry`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resource:
    """A kind as addressed over HTTP. `group` is "" for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """What `apiVersion` holds: "v1", "apps/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def qualified(self) -> str:
        """The name that errors use: "services", "deployments.apps"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """The URL path of the collection, of one object or of its subresource.

        `/api/v1/namespaces/x/services/y/status`. Without `namespace`, all namespaces.
        """
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
            if subresource:
                parts.append(subresource)
        return "/".join(parts)


PODS = Resource("", "v1", "pods", "Pod", short_names=("po",), categories=("all",))
SERVICES = Resource("", "v1", "services", "Service", short_names=("svc",), categories=("all",))
ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints", short_names=("ep",))
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False, short_names=("no",))
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False, short_names=("ns",))
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap", short_names=("cm",))
SECRETS = Resource("", "v1", "secrets", "Secret")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount", short_names=("sa",))
EVENTS = Resource("", "v1", "events", "Event", short_names=("ev",))
REPLICATION_CONTROLLERS = Resource(
    "", "v1", "replicationcontrollers", "ReplicationController", short_names=("rc",), categories=("all",)
)
DEPLOYMENTS = Resource(
    "apps", "v1", "deployments", "Deployment", short_names=("deploy",), categories=("all",)
)
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet", short_names=("rs",), categories=("all",))
DAEMON_SETS = Resource("apps", "v1", "daemonsets", "DaemonSet", short_names=("ds",), categories=("all",))
STATEFUL_SETS = Resource(
    "apps", "v1", "statefulsets", "StatefulSet", short_names=("sts",), categories=("all",)
)
CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
JOBS = Resource("batch", "v1", "jobs", "Job", categories=("all",))
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")

_RBAC = "rbac.authorization.k8s.io"
ROLES = Resource(_RBAC, "v1", "roles", "Role")
ROLE_BINDINGS = Resource(_RBAC, "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLES = Resource(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS = Resource(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
_NETWORKING = "networking.k8s.io"
INGRESSES = Resource(_NETWORKING, "v1", "ingresses", "Ingress", short_names=("ing",))
INGRESS_CLASSES = Resource(_NETWORKING, "v1", "ingressclasses", "IngressClass", namespaced=False)
SERVICE_CIDRS = Resource(_NETWORKING, "v1", "servicecidrs", "ServiceCIDR", namespaced=False)
IP_ADDRESSES = Resource(_NETWORKING, "v1", "ipaddresses", "IPAddress", namespaced=False, short_names=("ip",))
CERTIFICATE_SIGNING_REQUESTS = Resource(
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    namespaced=False,
    short_names=("csr",),
)
POD_DISRUPTION_BUDGETS = Resource(
    "policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", short_names=("pdb",)
)

ALL: tuple[Resource, ...] = (
    PODS,
    SERVICES,
    ENDPOINTS,
    ENDPOINT_SLICES,
    NODES,
    NAMESPACES,
    CONFIG_MAPS,
    SECRETS,
    SERVICE_ACCOUNTS,
    EVENTS,
    REPLICATION_CONTROLLERS,
    DEPLOYMENTS,
    REPLICA_SETS,
    DAEMON_SETS,
    STATEFUL_SETS,
    CONTROLLER_REVISIONS,
    JOBS,
    LEASES,
    ROLES,
    ROLE_BINDINGS,
    CLUSTER_ROLES,
    CLUSTER_ROLE_BINDINGS,
    INGRESSES,
    INGRESS_CLASSES,
    SERVICE_CIDRS,
    IP_ADDRESSES,
    CERTIFICATE_SIGNING_REQUESTS,
    POD_DISRUPTION_BUDGETS,
)
