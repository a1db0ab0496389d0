"""The load of the API benchmarks: as little client as can be, in a process of its own.

python load.py KUBECONFIG create FIRST COUNT FLIGHT
                                            creates COUNT Services and as many EndpointSlices
python load.py KUBECONFIG watch WATCHERS RATE SECONDS
                                            changes one object RATE times a second, watched by WATCHERS
python load.py KUBECONFIG get PATH TIMES    reads a path

Prints JSON. Latencies are in µs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import deque
from pathlib import Path

from testbed.client.kubeconfig import load

SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
MAPS = "/api/v1/namespaces/default/configmaps"
ENDPOINTS = 5
STAMP = b'"stamp":"'


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time. Only answers with a Content-Length."""

    def connection_made(self, transport):
        self.transport, self.buffer, self.waiter, self.needed = transport, bytearray(), None, 0

    def data_received(self, data):
        self.buffer += data
        if not self.needed:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            at = head.index(b"content-length:") + 15
            self.needed = end + 4 + int(head[at : head.find(b"\r\n", at) if b"\r\n" in head[at:] else None])
            self.code = int(head[9:12])
        if len(self.buffer) >= self.needed:
            self.needed = 0
            self.waiter.set_result(None)

    def connection_lost(self, error):
        if self.waiter and not self.waiter.done():
            self.waiter.set_exception(error or ConnectionError("closed"))

    async def ask(self, request):
        """Send a request; its code."""
        self.waiter = asyncio.get_running_loop().create_future()
        self.buffer.clear()
        self.transport.write(request)
        await self.waiter
        return self.code


class Watch(asyncio.Protocol):
    """One watch: how old each event was when it came."""

    def __init__(self):
        self.ages, self.rest, self.opened = [], b"", asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if not self.opened.done():
            self.opened.set_result(None)
        now, at = time.monotonic_ns(), 0
        data = self.rest + data
        while (found := data.find(STAMP, at)) >= 0:
            end = data.find(b'"', found + len(STAMP))
            if end < 0:
                break
            at = end
            self.ages.append((now - int(data[found + len(STAMP) : end])) / 1000)
        self.rest = data[at:][-4096:]


def request(method, path, body=None):
    data = json.dumps(body).encode() if body is not None else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: api\r\nContent-Length: {len(data)}\r\n"
    return (head + ("Content-Type: application/json\r\n" if data else "") + "\r\n").encode() + data


def service(number):
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {"metadata": {"name": f"s{number}"}, "spec": {"selector": {"app": f"s{number}"}, "ports": ports}}


def endpoint_slice(number):
    first = number * ENDPOINTS
    addresses = [
        f"10.{100 + (n >> 16)}.{n >> 8 & 255}.{n & 255}" for n in range(first + 1, first + 1 + ENDPOINTS)
    ]
    return {
        "metadata": {"name": f"s{number}-x", "labels": {"kubernetes.io/service-name": f"s{number}"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in addresses],
        "ports": [{"name": "http", "port": 8080}],
    }


async def connect(access, make=Connection):
    loop = asyncio.get_running_loop()
    host, _, port = access.server.removeprefix("https://").partition(":")
    _, protocol = await loop.create_connection(make, host, int(port), ssl=access.tls)
    return protocol


async def create(access, first, count, flight):
    first, count, flight = int(first), int(count), int(flight)
    requests = deque()
    for number in range(first, first + count):
        requests.append(request("POST", SERVICES, service(number)))
        requests.append(request("POST", SLICES, endpoint_slice(number)))
    connections = [await connect(access) for _ in range(flight)]
    latencies = []

    async def work(connection):
        while requests:
            each = requests.popleft()
            began = time.perf_counter_ns()
            code = await connection.ask(each)
            latencies.append((time.perf_counter_ns() - began) / 1000)
            assert code == 201, bytes(connection.buffer)

    began = time.perf_counter()
    await asyncio.gather(*map(work, connections))
    return {"latencies": latencies, "seconds": time.perf_counter() - began}


async def watch(access, watchers, rate, seconds):
    """The writer is another process, so that reading does not hold up writing."""
    writer = await connect(access)
    await writer.ask(request("POST", MAPS, {"metadata": {"name": "watched"}, "data": {"stamp": "0"}}))
    version = json.loads(writer.buffer.partition(b"\r\n\r\n")[2])["metadata"]["resourceVersion"]
    watches = [await connect(access, Watch) for _ in range(int(watchers))]
    where = f"{MAPS}?watch=1&resourceVersion={version}&fieldSelector=metadata.name%3Dwatched"
    for each in watches:
        each.transport.write(request("GET", where))
    await asyncio.gather(*(each.opened for each in watches))
    argv = [sys.executable, __file__, sys.argv[1], "change", rate, seconds]
    child = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    told, _ = await child.communicate()
    wanted, deadline = int(float(rate) * float(seconds)), time.monotonic() + 30
    while min(len(each.ages) for each in watches) < wanted and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    ages = [age for each in watches for age in each.ages]
    return {"ages": ages, "seen": min(len(each.ages) for each in watches), **json.loads(told)}


async def change(access, rate, seconds):
    """Change the object that is watched, RATE times a second; how late the last was."""
    rate, count = float(rate), int(float(rate) * float(seconds))
    connections = [await connect(access) for _ in range(8)]
    began, numbers = time.monotonic(), iter(range(count))

    async def work(connection):
        for number in numbers:
            wait = began + number / rate - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            body = {"metadata": {"name": "watched"}, "data": {"stamp": str(time.monotonic_ns())}}
            assert await connection.ask(request("PUT", f"{MAPS}/watched", body)) == 200
        return max(0.0, -wait)

    return {"late": max(await asyncio.gather(*map(work, connections)))}


async def get(access, path, times):
    connection = await connect(access)
    latencies = []
    for _ in range(int(times)):
        began = time.perf_counter_ns()
        assert await connection.ask(request("GET", path)) == 200
        latencies.append((time.perf_counter_ns() - began) / 1000)
    return {"latencies": latencies, "bytes": len(connection.buffer)}


def main():
    access = load(Path(sys.argv[1]))
    began = os.times()
    result = asyncio.run(globals()[sys.argv[2]](access, *sys.argv[3:]))
    ended = os.times()
    result["client_cpu"] = ended.user + ended.system - began.user - began.system
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
