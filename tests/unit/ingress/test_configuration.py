from __future__ import annotations

import re
from pathlib import Path

from testbed.ingress.configuration import configuration
from testbed.ingress.routes import Route, Site

HERE, THERE = ("10.96.0.1:80",), ("10.96.0.2:80",)


def servers(*sites: Site, **certificates: str) -> dict[str, dict[str, str]]:
    """server_name → location → what is done there, with upstreams written out."""
    text = configuration(sites, certificates, Path("/etc/x"))
    upstreams = {name: to.strip() for name, to in re.findall(r"upstream (\w+) \{ server (.*?); \}", text)}
    found = {}
    for block in text.split("    server {\n")[1:]:
        (name,) = re.findall(r"server_name (.*);", block)
        locations = dict(re.findall(r"location (.*) \{ (.*); \}", block))
        for match, do in locations.items():
            if do.startswith("proxy_pass"):
                locations[match] = upstreams[do.removeprefix("proxy_pass http://")]
        found[name] = locations | {"certificate": re.findall(r"ssl_certificate (.*);", block)[0]}
    return found


def test_a_prefix_is_whole_elements_and_exact_is_exact() -> None:
    site = Site("h", [Route("/a", False, HERE), Route("/b", True, THERE), Route("/", False, THERE)])
    (found,) = servers(site).values()
    assert found == {
        "= /a": HERE[0],
        "/a/": HERE[0],
        "= /b": THERE[0],
        "/": THERE[0],
        "certificate": "/etc/x/default.crt",
    }


def test_exact_goes_before_a_prefix_of_the_same_path() -> None:
    (found,) = servers(Site("h", [Route("/a", True, HERE), Route("/a", False, THERE)])).values()
    assert (found["= /a"], found["/a/"]) == (HERE[0], THERE[0])


def test_where_nobody_is_and_where_nothing_is() -> None:
    (found,) = servers(Site("h", [Route("/a", False, ())])).values()
    assert (found["/a/"], found["/"]) == ("return 503", "return 404")
    (found,) = servers(Site("h", [], default=HERE)).values()
    assert found["/"] == HERE[0]


def test_names_and_certificates() -> None:
    found = servers(Site(""), Site("a.b", secret="k"), Site("*.a.b"), k="pair")
    assert list(found) == ["_", "a.b", r'"~^[^.]+\.a\.b$"']
    assert found["a.b"]["certificate"] == "/etc/x/pair.crt"


def test_a_path_cannot_leave_its_place() -> None:
    (found,) = servers(Site("h", [Route('/a"; } evil {', True, HERE)])).values()
    assert found['= "/a\\"; } evil {"'] == HERE[0]
