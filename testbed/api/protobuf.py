"""Objects in Kubernetes' protobuf form, decoded: what `kubectl create namespace|secret|deployment|…` sends.

Only what kubectl's own create commands send is known; all else is refused, and clients send JSON instead.
Field numbers are those of k8s.io/api's `generated.proto`; the envelope is runtime.Unknown.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from testbed.api.status import StatusError, bad_request, unsupported_media_type

Object = dict[str, Any]

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

# A message is lines of "number field form". Forms: text, number, flag are left out when empty, as in JSON;
# number?, flag? are pointers and kept; texts a list; labels, blobs, amounts are maps from text to text, bytes
# and quantities; port is an IntOrString; time is never sent by a creator; a capital letter starts the name of
# another message, [Name] is a list of them, +Name is one whose fields stand here.
_SOURCE = {
    "ObjectMeta": "1 name text, 2 generateName text, 3 namespace text, 8 creationTimestamp time, "
    "11 labels labels, 12 annotations labels, 14 finalizers texts",
    "LabelSelector": "1 matchLabels labels",
    "Namespace": "1 metadata ObjectMeta, 2 spec NamespaceSpec, 3 status Nothing",
    "NamespaceSpec": "1 finalizers texts",
    "Nothing": "",
    "ConfigMap": "1 metadata ObjectMeta, 2 data labels, 3 binaryData blobs, 4 immutable flag?",
    "Secret": "1 metadata ObjectMeta, 2 data blobs, 3 type text, 4 stringData labels, 5 immutable flag?",
    "ServiceAccount": "1 metadata ObjectMeta, 4 automountServiceAccountToken flag?",
    "Service": "1 metadata ObjectMeta, 2 spec ServiceSpec, 3 status ServiceStatus",
    "ServiceStatus": "1 loadBalancer Nothing",
    "ServiceSpec": "1 ports [ServicePort], 2 selector labels, 3 clusterIP text, 4 type text, "
    "5 externalIPs texts, 7 sessionAffinity text, 8 loadBalancerIP text, 9 loadBalancerSourceRanges texts, "
    "10 externalName text, 11 externalTrafficPolicy text, 12 healthCheckNodePort number, "
    "13 publishNotReadyAddresses flag, "
    "17 ipFamilyPolicy text, 18 clusterIPs texts, 19 ipFamilies texts, 22 internalTrafficPolicy text",
    "ServicePort": "1 name text, 2 protocol text, 3 port number, 4 targetPort port, 5 nodePort number, "
    "6 appProtocol text",
    "Deployment": "1 metadata ObjectMeta, 2 spec DeploymentSpec, 3 status Nothing",
    "DeploymentSpec": "1 replicas number?, 2 selector LabelSelector, 3 template PodTemplateSpec, "
    "4 strategy DeploymentStrategy, 5 minReadySeconds number, 6 revisionHistoryLimit number?, 7 paused flag, "
    "9 progressDeadlineSeconds number?",
    "DeploymentStrategy": "1 type text",
    "Job": "1 metadata ObjectMeta, 2 spec JobSpec, 3 status Nothing",
    "JobSpec": "1 parallelism number?, 2 completions number?, 6 template PodTemplateSpec, "
    "7 backoffLimit number?",
    "PodTemplateSpec": "1 metadata ObjectMeta, 2 spec PodSpec",
    "PodSpec": "2 containers [Container], 3 restartPolicy text, 4 terminationGracePeriodSeconds number?, "
    "6 dnsPolicy text, 7 nodeSelector labels, 8 serviceAccountName text, 9 serviceAccount text, "
    "10 nodeName text, 11 hostNetwork flag, 14 securityContext Nothing, 16 hostname text, "
    "17 subdomain text, 19 schedulerName text",
    "Container": "1 name text, 2 image text, 3 command texts, 4 args texts, 5 workingDir text, "
    "6 ports [ContainerPort], 7 env [EnvVar], 8 resources ResourceRequirements, "
    "13 terminationMessagePath text, 14 imagePullPolicy text, "
    "16 stdin flag, 17 stdinOnce flag, 18 tty flag, 20 terminationMessagePolicy text",
    "ContainerPort": "1 name text, 2 hostPort number, 3 containerPort number, 4 protocol text, 5 hostIP text",
    "EnvVar": "1 name text, 2 value text",
    "ResourceRequirements": "1 limits amounts, 2 requests amounts",
    "TokenRequest": "1 metadata ObjectMeta, 2 spec TokenRequestSpec, 3 status TokenRequestStatus",
    "TokenRequestSpec": "1 audiences texts, 3 boundObjectRef BoundObject, 4 expirationSeconds number?",
    "TokenRequestStatus": "2 expirationTimestamp time",
    "BoundObject": "1 kind text, 2 apiVersion text, 3 name text, 4 uid text",
    "SelfSubjectReview": "1 metadata ObjectMeta, 2 status UserInfoStatus",
    "UserInfoStatus": "1 userInfo Nothing",
    "SelfSubjectRulesReview": "1 metadata ObjectMeta, 2 spec RulesSpec, 3 status Nothing",
    "RulesSpec": "1 namespace text",
    "SelfSubjectAccessReview": "1 metadata ObjectMeta, 2 spec AccessSpec, 3 status Nothing",
    "AccessSpec": "1 resourceAttributes Attributes, 2 nonResourceAttributes PathAttributes",
    "Attributes": "1 namespace text, 2 verb text, 3 group text, 4 version text, 5 resource text, "
    "6 subresource text, 7 name text",
    "PathAttributes": "1 path text, 2 verb text",
    "Role": "1 metadata ObjectMeta, 2 rules [PolicyRule]",
    "ClusterRole": "1 metadata ObjectMeta, 2 rules [PolicyRule]",
    "PolicyRule": "1 verbs texts, 2 apiGroups texts, 3 resources texts, 4 resourceNames texts, "
    "5 nonResourceURLs texts",
    "RoleBinding": "1 metadata ObjectMeta, 2 subjects [Subject], 3 roleRef RoleRef",
    "ClusterRoleBinding": "1 metadata ObjectMeta, 2 subjects [Subject], 3 roleRef RoleRef",
    "Subject": "1 kind text, 2 apiGroup text, 3 name text, 4 namespace text",
    "RoleRef": "1 apiGroup text, 2 kind text, 3 name text",
    "Ingress": "1 metadata ObjectMeta, 2 spec IngressSpec, 3 status ServiceStatus",
    "IngressSpec": "1 defaultBackend IngressBackend, 2 tls [IngressTLS], 3 rules [IngressRule], "
    "4 ingressClassName text",
    "IngressTLS": "1 hosts texts, 2 secretName text",
    "IngressRule": "1 host text, 2 value +IngressRuleValue",
    "IngressRuleValue": "1 http IngressPaths",
    "IngressPaths": "1 paths [IngressPath]",
    "IngressPath": "1 path text, 2 backend IngressBackend, 3 pathType text",
    "IngressBackend": "4 service BackendService",
    "BackendService": "1 name text, 2 port BackendPort",
    "BackendPort": "1 name text, 2 number number",
    "Eviction": "1 metadata ObjectMeta, 2 deleteOptions DeleteOptions",
    "PodDisruptionBudget": "1 metadata ObjectMeta, 2 spec BudgetSpec, 3 status BudgetStatus",
    "BudgetSpec": "1 minAvailable port, 2 selector LabelSelector, 3 maxUnavailable port, "
    "4 unhealthyPodEvictionPolicy text",
    "BudgetStatus": "3 disruptionsAllowed number, 4 currentHealthy number, 5 desiredHealthy number, "
    "6 expectedPods number",
    "DeleteOptions": "1 gracePeriodSeconds number?, 4 propagationPolicy text, 5 dryRun texts",
}
_RBAC = "rbac.authorization.k8s.io/v1"
_KINDS = {
    ("v1", "Namespace"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    *((_RBAC, kind) for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")),
    *(("authorization.k8s.io/v1", f"SelfSubject{kind}Review") for kind in ("Access", "Rules")),
    *(("authentication.k8s.io/v1", kind) for kind in ("SelfSubjectReview", "TokenRequest")),
    *(("policy/v1", kind) for kind in ("Eviction", "PodDisruptionBudget")),
    ("networking.k8s.io/v1", "Ingress"),
}


def _parsed(source: str) -> dict[int, tuple[str, str]]:
    fields = {}
    for line in filter(None, (part.strip() for part in source.split(","))):
        number, name, form = line.split()
        fields[int(number)] = (name, form)
    return fields


_MESSAGES = {name: _parsed(source) for name, source in _SOURCE.items()}


def decode(body: bytes) -> Object:
    """The object in a body. Raises StatusError 400 when it is cut short, 415 for what is not known."""
    if not body.startswith(_MAGIC):
        raise bad_request("the object provided is not in Kubernetes' protobuf form")
    try:
        envelope = dict(_fields(body[len(_MAGIC) :]))
        identity = dict(_fields(envelope.get(1, b"")))
        version, kind = (identity.get(number, b"").decode() for number in (1, 2))
        if (version, kind) not in _KINDS:
            raise _unknown(f"{version} {kind}")
        return {"apiVersion": version, "kind": kind} | _message(kind, envelope.get(2, b""))
    except (IndexError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise bad_request(f"the protobuf object is malformed: {error}") from None


def _unknown(what: str) -> StatusError:
    error = unsupported_media_type(CONTENT_TYPE, ("application/json", "application/yaml"))
    error.message += f" ({what} is not known in protobuf form)"
    return error


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message on the wire: numbers as int, all else as bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise IndexError("it ends inside a field")
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            raise TypeError(f"wire type {tag & 7} in field {tag >> 3}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _message(name: str, data: bytes) -> Object:
    result: Object = {}
    for number, value in _fields(data):
        field, form = _MESSAGES[name].get(number, ("", ""))
        if form:
            _take(result, field, form, value)
        elif value:
            raise _unknown(f"field {number} of {name}")
    return result


def _take(result: Object, field: str, form: str, value: Any) -> None:
    """Put one field's value where it belongs."""
    if form.startswith("["):
        result.setdefault(field, []).append(_message(form[1:-1], value))
    elif form.startswith("+"):
        result.update(_message(form[1:], value))
    elif form[0].isupper():
        result[field] = _message(form, value)
    elif form in ("labels", "blobs", "amounts"):
        pair = dict(_fields(value))
        result.setdefault(field, {})[pair.get(1, b"").decode()] = _MAP_VALUES[form](pair.get(2, b""))
    elif form == "texts":
        result.setdefault(field, []).append(value.decode())
    elif form == "port":
        parts = dict(_fields(value))
        result[field] = parts.get(3, b"").decode() if parts.get(1) else parts.get(2, 0)
    elif form == "text":
        if value:
            result[field] = value.decode()
    elif form in ("number", "number?"):
        if value or form == "number?":
            result[field] = value - (1 << 64) if value >> 63 else value
    elif form in ("flag", "flag?") and (value or form == "flag?"):
        result[field] = bool(value)


_MAP_VALUES: dict[str, Any] = {
    "labels": lambda data: data.decode(),
    "blobs": lambda data: base64.b64encode(data).decode(),
    "amounts": lambda data: dict(_fields(data)).get(1, b"").decode(),
}
