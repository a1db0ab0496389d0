"""Parts are made once, complete or not at all; what a killed run left is swept by the next."""

from pathlib import Path

import pytest

from testbed.vm import cache


@pytest.fixture(autouse=True)
def _room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_CACHE_DIR", str(tmp_path))


def test_a_part_is_made_once(tmp_path: Path) -> None:
    calls: list[Path] = []

    def make(target: Path) -> None:
        calls.append(target)
        target.write_text("made")

    for _ in range(2):
        assert cache.made(tmp_path / "kind/part", make).read_text() == "made"
    assert len(calls) == 1


def test_a_failed_part_leaves_nothing(tmp_path: Path) -> None:
    def make(target: Path) -> None:
        target.write_text("half")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - our own
        cache.made(tmp_path / "kind/part", make)
    assert list((tmp_path / "kind").iterdir()) == []


def test_the_newest_are_kept(tmp_path: Path) -> None:
    import os

    for age, name in enumerate(("a-1", "a-2", "a-3", "b-1")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    cache.keep_newest("a-*", 2)
    assert sorted(p.name for p in tmp_path.glob("?-*")) == ["a-1", "a-2", "b-1"]


def test_a_job_sweeps_the_dead_and_spares_the_living(tmp_path: Path) -> None:
    dead = tmp_path / "jobs/dead"
    dead.mkdir(parents=True)
    (dead / "stdout").touch()
    with cache.job_directory() as first, cache.job_directory() as second:
        assert not dead.exists()
        assert first.exists()
        assert second.exists()
    assert list((tmp_path / "jobs").iterdir()) == []
