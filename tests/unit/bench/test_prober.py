"""The prober against a server on the loopback: what it times, and what it refuses to time."""

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from testbed.bench import prober
from testbed.bench.waiting import first_answer

BODY = b"x" * 3000
DELAY = 0.02


class Server:
    """Says `answer` in two pieces, DELAY after each request; hangs up after `limit`; notes its peers."""

    def __init__(self, answer, limit):
        self.answer, self.limit, self.peers = answer, limit, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self.listener.accept()
                self.peers.append(peer)
                with connection, contextlib.suppress(ConnectionError):
                    for _ in range(self.limit):
                        if not connection.recv(4096):
                            break
                        time.sleep(DELAY)
                        connection.sendall(self.answer[:100])
                        connection.sendall(self.answer[100:])

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@pytest.fixture
def server(request):
    status, limit = getattr(request, "param", (b"200 OK", 1000))
    head = b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    server = Server(head + BODY, limit)
    yield server
    server.close()


def test_the_first_byte_comes_a_request_after_the_handshake(server):
    samples = prober.new_connections([server.address] * 3)
    assert len(samples) == 3
    for connect, first_byte in samples:
        assert 0 < connect < DELAY * 1e6 <= first_byte < 1e6


def test_every_sample_is_a_fresh_connection(server):
    prober.new_connections([server.address] * 5)
    assert len(set(server.peers)) == 5


def test_an_open_connection_is_one_connection_and_waits_for_the_whole_answer(server):
    samples = prober.open_connection(server.address, 4, warm_up=1)
    assert len(samples) == 4
    assert len(server.peers) == 1
    assert all(DELAY * 1e6 <= sample < 1e6 for sample in samples)


@pytest.mark.parametrize("server", [(b"404 Not Found", 1000)], indirect=True)
def test_an_error_page_is_no_sample(server):
    (said,) = prober.new_connections([server.address])
    assert "404" in said
    with pytest.raises(prober.ProbeError, match="404"):
        prober.open_connection(server.address, 1)
    assert first_answer(server.address, 0.2) is None


@pytest.mark.parametrize("server", [(b"200 OK", 3)], indirect=True)
def test_a_connection_that_ends_is_no_sample(server):
    with pytest.raises(prober.ProbeError, match=r"closed an open connection|reset|[Bb]roken pipe"):
        prober.open_connection(server.address, 10)


def test_the_first_answer_is_timed(server):
    before = time.perf_counter()
    assert before + DELAY <= first_answer(server.address, 5) <= time.perf_counter()


def test_a_target_that_comes_later_is_noticed_when_it_comes():
    with socket.socket() as late, ThreadPoolExecutor() as pool:
        late.bind(("127.0.0.1", 0))
        answer = pool.submit(first_answer, late.getsockname(), 10)
        time.sleep(0.2)
        assert not answer.done()
        opened = time.perf_counter()
        late.listen()
        with late.accept()[0] as connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            assert opened <= answer.result() <= opened + 1


def test_the_probers_own_cost_is_small_and_positive():
    costs = prober.overhead(50)
    assert {name: len(values) for name, values in costs.items()} == {"clock": 50, "loopback": 50}
    assert 0 <= min(costs["clock"]) < min(costs["loopback"])
