"""What the load generators print, as numbers; and a generator that failed is no figure."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from testbed.bench import agents, tools
from testbed.errors import TestbedError

METRICS = """\
# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram
kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="+Inf"} 3
kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv4"} 0.5
kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 3
kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv6"} 2.5e-01
kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv6"} 1
kubeproxy_network_programming_duration_seconds_sum 0
kubeproxy_network_programming_duration_seconds_count 0
"""


def test_histograms_are_summed_over_their_labels():
    assert agents.totals(METRICS)[agents.SYNC] == (0.75, 4.0)
    assert agents.totals(METRICS)[agents.PROGRAMMING] == (0.0, 0.0)
    assert agents.totals("nothing here") == {}


def test_what_a_histogram_gained():
    later = {agents.SYNC: (1.0, 6.0)}
    assert agents.after(agents.totals(METRICS), later, agents.SYNC) == (0.25, 2.0)
    assert agents.after({}, later, agents.SYNC) == (1.0, 6.0)


def test_wrk_s_summary_is_a_rate_and_two_latencies():
    said = "Running 10m test @ http://10.96.0.2:80/\n  1 threads\n30000 1500000 2 812.000000 4321.500000\n"
    assert tools._told(said, ("10.96.0.2", 80)) == (20_000, 812, 4321.5)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("", "said nothing of its run"),
        ("unable to connect to 10.96.0.2:80 Connection refused\n", "said nothing of its run"),
        ("100 1000000 50 1.0 2.0\n", "100 answers, 50 errors"),
        ("0 1000000 0 0.0 0.0\n", "0 answers"),
    ],
)
def test_a_generator_that_failed_is_no_figure(said, message):
    with pytest.raises(TestbedError, match=message):
        tools._told(said, ("10.96.0.2", 80))


def test_a_program_that_ends_badly_is_told_with_its_last_words():
    with pytest.raises(TestbedError, match="sh ended with 3: no route"):
        tools.run(["sh", "-c", "echo no route >&2; exit 3"], 1)


def test_a_program_that_is_missing_is_named_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(tools, "PROGRAMS", ("sh", "no-such-generator"))
    with pytest.raises(TestbedError, match="no-such-generator is not installed; `make setup`"):
        tools.need()


def test_bursts_of_wrk_end_when_they_are_told_to():
    """Also when the signal comes before wrk sleeps; the backend is a real server in a thread."""

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        before = time.monotonic()
        rate, middle, tail, _ = tools.requests(server.server_address, 0.5)
        server.shutdown()
    assert time.monotonic() - before < tools.GRACE
    assert rate > 10
    assert 0 < middle <= tail
