"""Namespaces and the workers inside them, against the running kernel."""

import os
from pathlib import Path

import pytest

from testbed.kernel.netns import Worker, scratch


def interfaces() -> list[str]:
    return [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]


def fail() -> None:
    raise ValueError("as asked")


def inode(path: str) -> int:
    return os.stat(path).st_ino


def test_a_scratch_namespace_has_only_loopback_and_is_gone_at_exit() -> None:
    with scratch() as path, Worker(path) as worker:
        assert worker.call(interfaces) == ["lo"]
        assert worker.call(inode, "/proc/self/ns/net") == os.stat(path).st_ino
        assert os.stat(path).st_ino != os.stat("/proc/self/ns/net").st_ino
    assert not path.exists()


def test_exceptions_come_back() -> None:
    with Worker() as worker:
        with pytest.raises(ValueError, match="as asked"):
            worker.call(fail)
        assert worker.call(os.getpid) == worker.pid


def test_calls_of_several_workers_overlap_and_results_are_kept_apart() -> None:
    with Worker() as one, Worker() as other:
        pending = [(worker, worker.start(os.getpid)) for worker in (one, other, one)]
        assert [waiting.result(5) for _, waiting in pending] == [worker.pid for worker, _ in pending]


def test_a_namespace_that_is_not_there_is_reported_at_the_first_call() -> None:
    with Worker("/nonexistent") as worker, pytest.raises(FileNotFoundError):
        worker.call(os.getpid)
