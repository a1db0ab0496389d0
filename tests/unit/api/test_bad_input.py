"""Whatever is wrong with a request is told in Kubernetes' own form: code, reason, and which field."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from testbed.api.wire import LONGEST_HEADER, LONGEST_URL
from testbed.client import Client
from testbed.model import resources
from testbed.model.resources import CONFIG_MAPS, PODS

pytestmark = pytest.mark.feature("C5")

MAPS = CONFIG_MAPS.path("default")
ADDRESSES = resources.IP_ADDRESSES.path()
PROTOBUF = "application/vnd.kubernetes.protobuf"
JSON = {"Content-Type": "application/json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}

# Method, path, body, headers; code and reason of the answer.
REQUESTS: tuple[tuple[str, str, bytes, dict[str, str], int, str], ...] = (
    ("POST", MAPS, b"{", JSON, 400, "BadRequest"),
    ("POST", MAPS, b"[]", JSON, 400, "BadRequest"),
    ("POST", MAPS, b"null", JSON, 400, "BadRequest"),
    ("POST", MAPS, b"a: [", {"Content-Type": "application/yaml"}, 400, "BadRequest"),
    ("POST", MAPS, b"x", {"Content-Type": "text/csv"}, 415, "UnsupportedMediaType"),
    ("POST", MAPS, b'{"kind":"Pod","metadata":{"name":"a"}}', JSON, 400, "BadRequest"),
    ("POST", MAPS, b'{"apiVersion":"v2","metadata":{"name":"a"}}', JSON, 400, "BadRequest"),
    ("POST", MAPS, b'{"metadata":{"name":"a","namespace":"b"}}', JSON, 400, "BadRequest"),
    ("POST", MAPS, b'{"metadata":{"name":"a","resourceVersion":"1"}}', JSON, 400, "BadRequest"),
    ("POST", MAPS, b'{"metadata":{}}', JSON, 422, "Invalid"),
    ("POST", MAPS, b'{"metadata":{"name":"a","labels":{"k":1}}}', JSON, 400, "BadRequest"),
    ("POST", MAPS, b"x" * (4 << 20), JSON, 413, "RequestEntityTooLarge"),
    ("POST", f"{MAPS}?dryRun=Some", b'{"metadata":{"name":"a"}}', JSON, 400, "BadRequest"),
    ("POST", CONFIG_MAPS.path(), b'{"metadata":{"name":"a"}}', JSON, 400, "BadRequest"),
    ("PUT", MAPS, b'{"metadata":{"name":"a"}}', JSON, 405, "MethodNotAllowed"),
    ("PUT", f"{MAPS}/none", b'{"metadata":{"name":"none"}}', JSON, 404, "NotFound"),
    ("PATCH", f"{MAPS}/none", b"{}", {"Content-Type": "application/merge-patch+json"}, 404, "NotFound"),
    ("PATCH", f"{MAPS}/none", b"{}", JSON, 415, "UnsupportedMediaType"),
    ("GET", f"{MAPS}/none/status", b"", {}, 404, "NotFound"),
    ("GET", f"{PODS.path('default', 'p')}/binding", b"", {}, 405, "MethodNotAllowed"),
    ("DELETE", f"{PODS.path('default', 'p')}/status", b"", {}, 405, "MethodNotAllowed"),
    ("GET", "/api/v1/nothing", b"", {}, 404, "NotFound"),
    ("GET", "/apis/none/v1", b"", {}, 404, "NotFound"),
    ("GET", f"{MAPS}?labelSelector=a%20b", b"", {}, 400, "BadRequest"),
    ("GET", f"{MAPS}?fieldSelector=spec.a=b", b"", {}, 400, "BadRequest"),
    ("GET", f"{MAPS}?limit=x", b"", {}, 400, "BadRequest"),
    ("GET", f"{MAPS}?continue=x", b"", {}, 410, "Expired"),
    ("GET", f"{MAPS}?resourceVersion=99999999", b"", {}, 504, "Timeout"),
    ("GET", f"{MAPS}?watch=1&resourceVersion=x", b"", {}, 400, "BadRequest"),
    ("GET", f"{MAPS}?watch=1&timeoutSeconds=x", b"", {}, 400, "BadRequest"),
    ("GET", MAPS, b"", {"Accept": "text/html"}, 406, "NotAcceptable"),
    ("DELETE", f"{MAPS}/none", b"", {}, 404, "NotFound"),
    ("DELETE", f"{MAPS}/none", b'{"gracePeriodSeconds":"soon"}', JSON, 400, "BadRequest"),
    ("DELETE", f"{MAPS}/there", b'{"preconditions":7}', JSON, 400, "BadRequest"),
    ("DELETE", f"{MAPS}/there", b'{"dryRun":"All"}', JSON, 400, "BadRequest"),
    ("DELETE", f"{MAPS}/there", b'{"propagationPolicy":"Maybe"}', JSON, 422, "Invalid"),
    ("DELETE", f"{MAPS}/there?gracePeriodSeconds=soon", b"", {}, 400, "BadRequest"),
    ("OPTIONS", MAPS, b"", {}, 405, "MethodNotAllowed"),
    ("POST", "/version", b"x", JSON, 405, "MethodNotAllowed"),
    ("POST", MAPS, b"k8s\0\n\7\n\2v1\22\1X", {"Content-Type": PROTOBUF}, 415, "UnsupportedMediaType"),
    ("GET", MAPS, b"", {"Accept": PROTOBUF}, 406, "NotAcceptable"),
    (
        "POST",
        f"{MAPS}?fieldValidation=Strict",
        b'{"metadata":{"name":"a"},"dat":{}}',
        JSON,
        400,
        "BadRequest",
    ),
    ("POST", f"{MAPS}?fieldValidation=Loud", b'{"metadata":{"name":"a"}}', JSON, 400, "BadRequest"),
    ("POST", MAPS.replace("default", "nowhere"), b'{"metadata":{"name":"a"}}', JSON, 404, "NotFound"),
    ("POST", MAPS, b'{"metadata":{"name":"there"}}', JSON, 409, "AlreadyExists"),
    ("PUT", f"{MAPS}/there", b'{"metadata":{"name":"other"}}', JSON, 400, "BadRequest"),
    ("PUT", f"{MAPS}/there", b'{"metadata":{"name":"there","resourceVersion":"2"}}', JSON, 409, "Conflict"),
    ("PUT", f"{MAPS}/there", b'{"metadata":{"name":"there","uid":"x"}}', JSON, 409, "Conflict"),
    ("PATCH", f"{MAPS}/there", b'[{"op":"test","path":"/data","value":1}]', JSON_PATCH, 422, "Invalid"),
    ("PATCH", f"{MAPS}/there", b'{"op":"add"}', JSON_PATCH, 400, "BadRequest"),
    ("PATCH", f"{MAPS}/there?fieldManager=x", b'{"apiVersion":"v1"', APPLY, 400, "BadRequest"),
    ("PATCH", f"{MAPS}/there", b"apiVersion: v1", APPLY, 400, "BadRequest"),
    ("PUT", f"{MAPS}/fixed", b'{"metadata":{"name":"fixed"},"data":{"a":"2"}}', JSON, 422, "Invalid"),
    (
        "POST",
        "/apis/networking.k8s.io/v1/ipaddresses",
        b'{"metadata":{"name":"1.2.3.4"}}',
        JSON,
        405,
        "MethodNotAllowed",
    ),
    ("GET", f"{MAPS}?watch=1&resourceVersion=99999999&timeoutSeconds=1", b"", {}, 200, "Expired"),
)


def test_refusals_have_kubernetes_form(serve: Any, raw: Any) -> None:
    async def scenario(client: Client) -> None:
        await client.create(CONFIG_MAPS, {"metadata": {"name": "there", "namespace": "default"}})
        fixed = {"metadata": {"name": "fixed", "namespace": "default"}, "data": {"a": "1"}, "immutable": True}
        await client.create(CONFIG_MAPS, fixed)
        wrong = []
        for method, path, body, headers, code, reason in REQUESTS:
            status, answer = await raw(client, method, path, body, **headers)
            refusal = answer["object"] if answer.get("type") == "ERROR" else answer
            seen = (status, refusal["kind"], refusal.get("status"), refusal.get("reason"))
            if seen != (code, "Status", "Failure", reason) or (code != 200 and refusal["code"] != code):
                wrong.append((method, path, body[:50], seen))
        assert wrong == []

    serve(scenario)


def head(line: str, *headers: str) -> bytes:
    return "\r\n".join([line, "Host: x", *headers, "", ""]).encode()


LIST, POST = f"GET {MAPS} HTTP/1.1", f"POST {MAPS} HTTP/1.1"
CHUNKED = head(POST, "Content-Type: application/json", "Transfer-Encoding: chunked")

# Bytes of a request; code and reason of the answer.
BYTES: tuple[tuple[bytes, int, str | None], ...] = (
    (head(f"GET {MAPS}?labelSelector={'a' * LONGEST_URL} HTTP/1.1"), 414, None),
    (head(LIST, f"User-Agent: {'a' * 2 * LONGEST_HEADER}"), 431, None),
    (head(LIST, *(f"X-{number}: a" for number in range(200))), 431, None),
    (head(f"GET {MAPS} HTTP/1.1x"), 400, "BadRequest"),
    (b"\0\1\2\3\r\n\r\n", 400, "BadRequest"),
    (CHUNKED + b"no length\r\n{}\r\n", 400, "BadRequest"),
    (head(POST, "Content-Length: 7", "Content-Encoding: gzip") + b"no gzip", 400, "BadRequest"),
    (head(POST, "Content-Length: some"), 400, "BadRequest"),
    (head(f"GET {MAPS}?watch=1 HTTP/1.0"), 400, "BadRequest"),
)


def test_bytes_that_are_no_request_are_refused_in_kubernetes_form_too(serve: Any) -> None:
    async def scenario(client: Client) -> None:
        host, _, port = client.access.server.removeprefix("https://").partition(":")
        wrong = []
        for sent, code, reason in BYTES:
            reader, writer = await asyncio.open_connection(host, int(port), ssl=client.access.tls)
            writer.write(sent)
            async with asyncio.timeout(30):
                line = await reader.readline()
                headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(headers.partition("content-length:")[2].split()[0])
                answer = json.loads(await reader.readexactly(length))
            seen = (int(line.split()[1]), answer["kind"], answer.get("code"), answer.get("reason"))
            if seen != (code, "Status", code, reason):
                wrong.append((sent[:80], seen, str(answer)[:200]))
            writer.close()
        assert wrong == []

    serve(scenario)


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], **spec}}


def named(name: str, **metadata: Any) -> dict[str, Any]:
    return {**service(), "metadata": {"name": name, **metadata}}


def budget(spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "b"}, "spec": spec}


def ports(*given: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return service(ports=list(given), **spec)


def slices(kind: str, *addresses: str) -> dict[str, Any]:
    return {"metadata": {"name": "s"}, "addressType": kind, "endpoints": [{"addresses": list(addresses)}]}


def pod(**container: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", **container}]}}


def cidrs(*ranges: str) -> dict[str, Any]:
    return {"metadata": {"name": "r"}, "spec": {"cidrs": list(ranges)}}


def ingress(**path: Any) -> dict[str, Any]:
    return {"metadata": {"name": "i"}, "spec": {"rules": [{"http": {"paths": [path]}}]}}


RULE = {"apiGroups": [""], "resources": ["pods"]}
MOUNT = {"name": "v", "mountPath": "/v"}
SECRETS, CIDRS = resources.SECRETS, resources.SERVICE_CIDRS
SERVICES, SLICES = resources.SERVICES, resources.ENDPOINT_SLICES
BUDGETS, ROLES = resources.POD_DISRUPTION_BUDGETS, resources.ROLES
BACKEND = {"service": {"name": "s", "port": {"number": 80}}}

# Kind and object; the field and the reason of the cause.
OBJECTS: tuple[tuple[resources.Resource, dict[str, Any], str, str], ...] = (
    (SERVICES, named("Upper"), "metadata.name", "Invalid"),
    (SERVICES, named("1st"), "metadata.name", "Invalid"),
    (
        SERVICES,
        {**service(), "metadata": {"name": "s", "labels": {"a/b/c": "x"}}},
        "metadata.labels",
        "Invalid",
    ),
    (SERVICES, named("s", labels={"a": "-"}), "metadata.labels", "Invalid"),
    (
        SERVICES,
        {**service(), "metadata": {"name": "s", "annotations": {" ": ""}}},
        "metadata.annotations",
        "Invalid",
    ),
    (SERVICES, service(ports=[]), "spec.ports", "Required"),
    (SERVICES, ports({"port": 0}), "spec.ports[0].port", "Invalid"),
    (SERVICES, ports({"port": 65536}), "spec.ports[0].port", "Invalid"),
    (SERVICES, ports({"port": 1, "protocol": "ICMP"}), "spec.ports[0].protocol", "NotSupported"),
    (SERVICES, ports({"port": 1}, {"port": 2}), "spec.ports[0].name", "Required"),
    (SERVICES, ports({"port": 1, "name": "a"}, {"port": 2, "name": "a"}), "spec.ports[1].name", "Duplicate"),
    (SERVICES, ports({"port": 1, "name": "a"}, {"port": 1, "name": "b"}), "spec.ports[1]", "Duplicate"),
    (SERVICES, ports({"port": 1, "targetPort": "a_b"}), "spec.ports[0].targetPort", "Invalid"),
    (SERVICES, ports({"port": 1, "nodePort": 30001}), "spec.ports[0].nodePort", "Forbidden"),
    (SERVICES, ports({"port": 1, "nodePort": 80}, type="NodePort"), "spec.ports[0].nodePort", "Invalid"),
    (SERVICES, ports({"port": 1, "nodePort": 30007}, type="NodePort"), "spec.ports[0].nodePort", "Invalid"),
    (SERVICES, service(type="Magic"), "spec.type", "NotSupported"),
    (SERVICES, service(type="ExternalName"), "spec.externalName", "Required"),
    (SERVICES, service(clusterIP="10.96.0"), "spec.clusterIPs[0]", "Invalid"),
    (SERVICES, service(clusterIP="192.0.2.1"), "spec.clusterIPs", "Invalid"),
    (SERVICES, service(clusterIP="10.96.0.1"), "spec.clusterIPs", "Invalid"),
    (SERVICES, service(clusterIP="None", type="NodePort"), "spec.clusterIPs[0]", "Invalid"),
    (SERVICES, service(externalIPs=["x"]), "spec.externalIPs[0]", "Invalid"),
    (SERVICES, service(sessionAffinity="Maybe"), "spec.sessionAffinity", "NotSupported"),
    (SERVICES, service(internalTrafficPolicy="Some"), "spec.internalTrafficPolicy", "NotSupported"),
    (SERVICES, service(externalTrafficPolicy="Local"), "spec.externalTrafficPolicy", "Invalid"),
    (
        SERVICES,
        service(loadBalancerSourceRanges=["::/0"]),
        "spec.loadBalancerSourceRanges",
        "Forbidden",
    ),
    (SLICES, slices("IPv4", "127.0.0.1"), "endpoints[0].addresses[0]", "Invalid"),
    (SLICES, slices("IPv4", "::1"), "endpoints[0].addresses[0]", "Invalid"),
    (SLICES, slices("IPv4", "2001:db8::1"), "endpoints[0].addresses[0]", "Invalid"),
    (SLICES, slices("IPv6", "10.0.0.1"), "endpoints[0].addresses[0]", "Invalid"),
    (SLICES, slices("IPv4"), "endpoints[0].addresses", "Required"),
    (SLICES, slices("MAC", "x"), "addressType", "NotSupported"),
    (PODS, {"metadata": {"name": "p"}, "spec": {}}, "spec.containers", "Required"),
    (PODS, pod(name="A"), "spec.containers[0].name", "Invalid"),
    (PODS, pod(image=""), "spec.containers[0].image", "Required"),
    (PODS, pod(ports=[{"containerPort": 0}]), "spec.containers[0].ports[0].containerPort", "Invalid"),
    (
        PODS,
        pod(volumeMounts=[MOUNT]),
        "spec.containers[0].volumeMounts[0].name",
        "NotFound",
    ),
    (CONFIG_MAPS, {"metadata": {"name": "m"}, "data": {"a b": ""}}, "data[a b]", "Invalid"),
    (
        resources.SECRETS,
        {"metadata": {"name": "s"}, "type": "kubernetes.io/tls"},
        "data[tls.crt]",
        "Required",
    ),
    (CIDRS, cidrs(), "spec.cidrs", "Required"),
    (CIDRS, cidrs("10.1.0.1/24"), "spec.cidrs[0]", "Invalid"),
    (CIDRS, cidrs("10.1.0.0/24", "x"), "spec.cidrs[1]", "Invalid"),
    (CIDRS, cidrs("10.1.0.0/24", "10.2.0.0/24"), "spec.cidrs", "Invalid"),
    (CIDRS, cidrs("10.1.0.0/24", "fd00::/112", "10.2.0.0/24"), "spec.cidrs", "TooMany"),
    (BUDGETS, budget({"minAvailable": -1}), "spec.minAvailable", "Invalid"),
    (
        BUDGETS,
        budget({"maxUnavailable": "half"}),
        "spec.maxUnavailable",
        "Invalid",
    ),
    (
        BUDGETS,
        budget({"minAvailable": 1, "maxUnavailable": 1}),
        "spec",
        "Invalid",
    ),
    (
        ROLES,
        {"metadata": {"name": "r"}, "rules": [RULE]},
        "rules[0].verbs",
        "Required",
    ),
    (resources.INGRESSES, {"metadata": {"name": "i"}}, "spec", "Invalid"),
    (
        resources.INGRESSES,
        ingress(path="x", pathType="Exact", backend=BACKEND),
        "spec.rules[0].http.paths[0].path",
        "Invalid",
    ),
    (
        resources.INGRESSES,
        ingress(path="/", pathType="Some", backend=BACKEND),
        "spec.rules[0].http.paths[0].pathType",
        "NotSupported",
    ),
)


def test_each_broken_rule_names_its_field(serve: Any, raw: Any) -> None:
    async def scenario(client: Client) -> None:
        holder = ports({"port": 1, "nodePort": 30007}, type="NodePort")
        holder["metadata"] = {"name": "holder", "namespace": "default"}
        await client.create(SERVICES, holder)
        wrong = []
        for resource, obj, field, reason in OBJECTS:
            path, body = resource.path("default"), json.dumps(obj).encode()
            status, answer = await raw(client, "POST", path, body, **JSON)
            causes = [(each["field"], each["reason"]) for each in answer.get("details", {}).get("causes", ())]
            if status != 422 or (field, f"FieldValue{reason}") not in causes:
                wrong.append((obj, field, status, causes or answer.get("message")))
        assert wrong == []
        assert (await client.list(SERVICES, "default")).resource_version

    serve(scenario)


MERGE = {"Content-Type": "application/merge-patch+json"}


def workload(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
    return {
        "metadata": {"name": "w"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec},
    }


def job() -> dict[str, Any]:
    once = {"restartPolicy": "Never", **pod()["spec"]}
    return {"metadata": {"name": "j"}, "spec": {"template": {"spec": once}}}


SELECTOR = {"spec": {"selector": {"matchLabels": {"a": "c"}}}}
SECRET = {"metadata": {"name": "t"}, "type": "a/b"}
BINDING = {"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}}

# Kind and object, a merge patch of it; the field and the reason of the cause.
CHANGES: tuple[tuple[resources.Resource, dict[str, Any], dict[str, Any], str, str], ...] = (
    (
        SERVICES,
        service(),
        {"spec": {"clusterIP": "10.96.0.77", "clusterIPs": None}},
        "spec.clusterIPs[0]",
        "Invalid",
    ),
    (PODS, pod(), {"spec": {"nodeName": "n"}}, "spec", "Forbidden"),
    (SLICES, slices("IPv4", "10.0.0.1"), {"addressType": "IPv6"}, "addressType", "Invalid"),
    (SECRETS, SECRET, {"type": "c/d"}, "type", "Invalid"),
    (resources.DEPLOYMENTS, workload(), SELECTOR, "spec.selector", "Invalid"),
    (resources.REPLICA_SETS, workload(), SELECTOR, "spec.selector", "Invalid"),
    (resources.DAEMON_SETS, workload(), SELECTOR, "spec.selector", "Invalid"),
    (resources.STATEFUL_SETS, workload(), {"spec": {"serviceName": "s"}}, "spec", "Forbidden"),
    (
        resources.JOBS,
        job(),
        {"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}},
        "spec.template",
        "Invalid",
    ),
    (
        resources.JOBS,
        {**job(), "metadata": {"name": "k"}},
        {"spec": {"completions": 7}},
        "spec.completions",
        "Invalid",
    ),
    (resources.ROLE_BINDINGS, BINDING, {"roleRef": {"name": "s"}}, "roleRef", "Invalid"),
    (
        resources.INGRESS_CLASSES,
        {"metadata": {"name": "c"}, "spec": {"controller": "x/y"}},
        {"spec": {"controller": "x/z"}},
        "spec.controller",
        "Invalid",
    ),
    (
        resources.CONTROLLER_REVISIONS,
        {"metadata": {"name": "c"}, "revision": 1, "data": {}},
        {"data": {"a": 1}},
        "data",
        "Invalid",
    ),
)


def test_what_never_changes_is_named(serve: Any, raw: Any) -> None:
    async def scenario(client: Client) -> None:
        wrong = []
        for resource, obj, change, field, reason in CHANGES:
            body, name = json.dumps(obj).encode(), obj["metadata"]["name"]
            made, told = await raw(client, "POST", resource.path("default"), body, **JSON)
            path, patch = resource.path("default", name), json.dumps(change).encode()
            status, answer = await raw(client, "PATCH", path, patch, **MERGE)
            causes = [(each["field"], each["reason"]) for each in answer.get("details", {}).get("causes", ())]
            if (made, status) != (201, 422) or (field, f"FieldValue{reason}") not in causes:
                wrong.append((resource.plural, told.get("message"), status, causes or answer.get("message")))
        assert wrong == []

    serve(scenario)
