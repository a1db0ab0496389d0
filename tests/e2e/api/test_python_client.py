"""The official Python client, unmodified, against the API server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import kubernetes
import pytest
from kubernetes.client import (
    ApiClient,
    ApiException,
    AppsV1Api,
    AuthorizationV1Api,
    CoreV1Api,
    DiscoveryV1Api,
    V1Deployment,
    V1LabelSelector,
    V1ObjectMeta,
    V1ResourceAttributes,
    V1SelfSubjectAccessReview,
    V1SelfSubjectAccessReviewSpec,
    V1Service,
    V1ServicePort,
    V1ServiceSpec,
)
from own_server import Api

pytestmark = pytest.mark.feature("C1", "C2")


@pytest.fixture(scope="module")
def client(api: Api) -> Iterator[ApiClient]:
    config = str(api.directory / "admin.kubeconfig")
    with kubernetes.config.new_client_from_config(config) as client:
        yield client


@pytest.fixture
def core(client: ApiClient) -> CoreV1Api:
    return CoreV1Api(client)


def service(name: str, **labels: str) -> V1Service:
    ports = [V1ServicePort(name="http", port=80, target_port="web")]
    spec = V1ServiceSpec(type="NodePort", selector={"app": name}, ports=ports)
    return V1Service(metadata=V1ObjectMeta(name=name, labels=labels), spec=spec)


def test_a_service_is_created_read_changed_and_deleted(core: CoreV1Api, namespace: str) -> None:
    made = core.create_namespaced_service(namespace, service("web"))
    assert made.spec.cluster_ip == made.spec.cluster_ips[0]
    assert 30000 <= made.spec.ports[0].node_port <= 32767
    assert core.read_namespaced_service("web", namespace).metadata.uid == made.metadata.uid
    made.spec.session_affinity = "ClientIP"
    changed = core.replace_namespaced_service("web", namespace, made)
    assert changed.spec.session_affinity_config.client_ip.timeout_seconds == 10800
    with pytest.raises(ApiException) as stale:
        core.replace_namespaced_service("web", namespace, made)
    assert stale.value.status == 409
    patched = core.patch_namespaced_service("web", namespace, {"metadata": {"labels": {"a": "b"}}})
    assert patched.metadata.labels == {"a": "b"}
    core.delete_namespaced_service("web", namespace)
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_service("web", namespace)
    assert gone.value.status == 404


def test_selectors_and_pages(core: CoreV1Api, namespace: str) -> None:
    for number in range(5):
        core.create_namespaced_service(namespace, service(f"s{number}", odd=str(number % 2)))
    odd = core.list_namespaced_service(namespace, label_selector="odd=1")
    assert [each.metadata.name for each in odd.items] == ["s1", "s3"]
    one = core.list_namespaced_service(namespace, field_selector="metadata.name=s2")
    assert [each.metadata.name for each in one.items] == ["s2"]
    names, token = [], None
    while token != "":
        page = core.list_namespaced_service(namespace, limit=2, **({"_continue": token} if token else {}))
        names += [each.metadata.name for each in page.items]
        token = page.metadata._continue or ""
    assert names == [f"s{number}" for number in range(5)]


def test_a_watch_tells_of_changes_and_resumes(core: CoreV1Api, namespace: str) -> None:
    start = core.list_namespaced_config_map(namespace).metadata.resource_version

    def write() -> None:
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "m"}, "data": {"n": "0"}})
        for number in range(1, 4):
            core.patch_namespaced_config_map("m", namespace, {"data": {"n": str(number)}})
        core.delete_namespaced_config_map("m", namespace)

    writer = threading.Thread(target=write)
    writer.start()
    seen, watch = [], kubernetes.watch.Watch()
    since = {"resource_version": start, "timeout_seconds": 30}
    for event in watch.stream(core.list_namespaced_config_map, namespace, **since):
        seen.append((event["type"], event["object"].data["n"]))
        if len(seen) == 2:
            half = event["object"].metadata.resource_version
        if event["type"] == "DELETED":
            watch.stop()
    writer.join()
    changes = [("ADDED", "0"), *(("MODIFIED", str(number)) for number in range(1, 4)), ("DELETED", "3")]
    assert seen == changes
    again, watch = [], kubernetes.watch.Watch()
    for event in watch.stream(
        core.list_namespaced_config_map, namespace, resource_version=half, timeout_seconds=30
    ):
        again.append((event["type"], event["object"].data["n"]))
        if event["type"] == "DELETED":
            watch.stop()
    assert again == changes[2:]


def test_a_deployment_is_scaled_by_its_subresource(client: ApiClient, namespace: str) -> None:
    apps = AppsV1Api(client)
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]},
    }
    spec = {"replicas": 1, "selector": V1LabelSelector(match_labels={"a": "b"}), "template": template}
    apps.create_namespaced_deployment(namespace, {"metadata": {"name": "d"}, "spec": spec})
    scale = apps.patch_namespaced_deployment_scale("d", namespace, {"spec": {"replicas": 3}})
    assert (scale.spec.replicas, scale.status.selector) == (3, "a=b")
    read: V1Deployment = apps.read_namespaced_deployment("d", namespace)
    assert (read.spec.replicas, read.metadata.generation) == (3, 2)


def test_a_refusal_says_which_field(core: CoreV1Api, namespace: str) -> None:
    bad = service("web")
    bad.spec.ports[0].port = 70000
    with pytest.raises(ApiException) as refusal:
        core.create_namespaced_service(namespace, bad)
    assert (refusal.value.status, refusal.value.reason) == (422, "Unprocessable Entity")
    assert "spec.ports[0].port: Invalid value: 70000" in refusal.value.body


def test_reviews_and_the_dynamic_client(client: ApiClient, namespace: str) -> None:
    asked = V1ResourceAttributes(verb="delete", resource="pods", namespace=namespace)
    review = V1SelfSubjectAccessReview(spec=V1SelfSubjectAccessReviewSpec(resource_attributes=asked))
    answer = AuthorizationV1Api(client).create_self_subject_access_review(review)
    assert answer.status.allowed
    assert DiscoveryV1Api(client).list_endpoint_slice_for_all_namespaces().items
    dynamic = kubernetes.dynamic.DynamicClient(client)
    services = dynamic.resources.get(api_version="v1", kind="Service")
    assert services.get(name="kubernetes", namespace="default").spec.clusterIP == "10.96.0.1"
    maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1"}}
    done = maps.server_side_apply(config, name="applied", namespace=namespace, field_manager="tests")
    assert done.metadata.managedFields[0].manager == "tests"


def test_manifests_are_created_from_files(client: ApiClient, namespace: str, tmp_path: Path) -> None:
    file = tmp_path / "map.yaml"
    file.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: filed}\ndata: {a: b}\n")
    kubernetes.utils.create_from_yaml(client, str(file), namespace=namespace)
    assert CoreV1Api(client).read_namespaced_config_map("filed", namespace).data == {"a": "b"}
