"""Ingress: a real nginx in a Pod, asked by the client outside the cluster."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import live
import pytest
from live import until

pytestmark = pytest.mark.feature("A25")

EXAMPLE = Path(__file__).parents[2] / "examples" / "ingress.yaml"

MORE = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: more}
spec:
  defaultBackend: {service: {name: web, port: {name: http}}}
  rules:
    - host: "*.shop.example"
      http:
        paths:
          - {path: /only, pathType: Exact, backend: &cart {service: {name: cart, port: {number: 8080}}}}
          - {path: /any, pathType: ImplementationSpecific, backend: *cart}
          - {path: /gone, pathType: Prefix, backend: {service: {name: nobody, port: {number: 80}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: elsewhere}
spec:
  ingressClassName: somebody-elses
  rules:
    - host: elsewhere.example
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: cart, port: {number: 8080}}}}]}
"""

ASKER = r"""
import http.client, select, sys
address, failed, asked = sys.argv[1], 0, 0
kept = http.client.HTTPConnection(address, timeout=10)
while not select.select([sys.stdin], [], [], 0)[0]:
    for connection in (kept, http.client.HTTPConnection(address, timeout=10)):
        asked += 1
        try:
            connection.request("GET", "/cart", headers={"Host": "shop.example"})
            answer = connection.getresponse()
            failed += b'"cart"' not in answer.read() or answer.status != 200
        except http.client.RemoteDisconnected:
            failed += connection is not kept  # an idle connection may be ended; one opens another
            kept.close()
        except OSError as error:
            failed += 1
            print(error, file=sys.stderr)
print(asked, failed)
"""
"""Asks on a connection that it keeps and on new ones, until its input is closed."""


class Kubectl(live.Kubectl):
    """kubectl on one cluster whose ingress has an address."""

    def __init__(self, cluster: live.Cluster) -> None:
        super().__init__(cluster)
        self.address = ""

    def ask(self, url: str, *words: str) -> tuple[int, Any]:
        """(HTTP status, body) of what the outside client gets for http(s)://HOST/PATH."""
        scheme, _, rest = url.partition("://")
        host, port = rest.partition("/")[0], {"http": 80, "https": 443}[scheme]
        argv = ["curl", "-s", "-m", "5", "-w", "\n%{http_code}", "--resolve", f"{host}:{port}:{self.address}"]
        done = self.cluster.machine("client").run([*argv, *words, url], check=False)
        body, _, status = done.stdout.rpartition("\n")
        return int(status or 0), json.loads(body) if body.startswith("{") else body

    def name(self, url: str) -> str:
        """What the Pod that answers is called, without the ending of its name."""
        status, body = self.ask(url)
        return str(body["pod"]).partition("-")[0] if status == 200 else str(status)


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    directory = tmp_path_factory.mktemp("ingress")
    with live.running("ingress", directory) as cluster:
        kubectl = Kubectl(cluster)
        deployment = (
            "get",
            "deployment",
            "-n",
            "kube-system",
            "ingress-nginx",
            "-o",
            "jsonpath={.spec.replicas}",
        )
        assert kubectl(*deployment) == "0", "it sleeps until there is an Ingress"
        pair = ["-keyout", f"{directory}/key", "-out", f"{directory}/crt"]
        subject = ["-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example"]
        openssl = ["openssl", "req", "-x509", "-nodes", *pair, *subject]
        subprocess.run(openssl, check=True, capture_output=True)
        kubectl("create", "secret", "tls", "shop-tls", f"--cert={directory}/crt", f"--key={directory}/key")
        kubectl("apply", "-f", str(EXAMPLE))
        status = ("get", "ingress", "shop", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
        kubectl.address = until(lambda: kubectl(*status), "no address in the status")
        until(lambda: kubectl.name("http://shop.example/") == "web", "nobody answers")
        kubectl("wait", "--for=condition=Ready", "pod/cart", "--timeout=60s")
        kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=60s")
        yield kubectl


def test_hosts_and_paths_lead_to_their_services(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=MORE)
    expected = {
        "http://x.shop.example/only": "cart",
        "http://shop.example/": "web",
        "http://shop.example/anything": "web",
        "http://shop.example/cart": "cart",
        "http://shop.example/cart/1": "cart",
        "http://shop.example/cartoon": "web",
        "http://x.shop.example/only/": "web",
        "http://x.shop.example/any/1": "cart",
        "http://x.shop.example/gone": "503",
        "http://a.b.shop.example/only": "web",
        "http://elsewhere.example/": "web",
        "https://shop.example/cart": "0",
    }
    seen: dict[str, str] = {}

    def all_as_expected() -> bool:
        """For a tenth of a second after a change, nginx's old workers accept connections beside the new."""
        seen.update({url: kubectl.name(url) for url in expected})
        return seen == expected

    with suppress(AssertionError):
        until(all_as_expected, "the second Ingress is not served")
    assert seen == expected
    assert kubectl("get", "ingress", "elsewhere", "-o", "jsonpath={.status.loadBalancer}") in ("", "{}")
    kubectl("delete", "ingress", "more", "elsewhere")
    until(lambda: kubectl.name("http://x.shop.example/") == "404", "what is deleted is still served")


def test_requests_are_balanced_by_the_nodes_rules(kubectl: Kubectl) -> None:
    seen = {kubectl.ask("http://shop.example/")[1]["pod"] for _ in range(20)}
    assert len(seen) == 2


def test_the_certificate_is_that_of_the_secret(kubectl: Kubectl, tmp_path: Path) -> None:
    secret = kubectl("get", "secret", "shop-tls", "-o", r"jsonpath={.data.tls\.crt}")
    file = tmp_path / "crt"
    file.write_bytes(base64.b64decode(secret))
    status, body = kubectl.ask("https://shop.example/cart", "--cacert", str(file))
    assert (status, body["pod"]) == (200, "cart")
    assert kubectl.ask("https://other.example/", "--cacert", str(file))[0] == 0, "not for other names"
    assert kubectl.ask("https://other.example/", "-k")[0] == 404


def test_no_request_is_lost_while_the_configuration_changes(kubectl: Kubectl) -> None:
    client = kubectl.cluster.machine("client")
    argv = [sys.executable, "-c", ASKER, kubectl.address]
    pipe = subprocess.PIPE
    with client.popen(argv, stdin=pipe, stdout=pipe, text=True) as asker:
        for number in range(6):
            host = f"h{number}.shop.example"
            kubectl("apply", "-f", "-", manifest=MORE.replace("*.shop.example", host))
            until(lambda url=f"http://{host}/only": kubectl.name(url) == "cart", f"{host} is not served")
        printed, _ = asker.communicate()
    asked, failed = map(int, printed.split())
    assert asked >= 50
    assert failed == 0
