"""The scripts for the guest, run here by a shell; and which directories are shared."""

import subprocess
from pathlib import Path

import pytest

from testbed.vm import image, job, qemu


def test_the_command_keeps_every_word_and_variable(tmp_path: Path) -> None:
    words = ["printf", "%s|", "two words", "$HOME", "it's", "*", "", "a\nb"]
    assert said(words, tmp_path) == "two words|$HOME|it's|*||a\nb|"
    assert said(["sh", "-c", 'printf "%s@%s" "$ODD" "$PWD"'], tmp_path) == f"a 'b' $c\n@{tmp_path}"


def said(words: list[str], cwd: Path) -> str:
    script = job._command(words, cwd, {"PATH": "/usr/bin:/bin", "ODD": "a 'b' $c\n"})
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout


def test_the_guest_knows_where_it_is_and_nothing_of_host_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    inside = job.environment({"MORE": "1"}, "Debian 6.1")
    assert inside["TESTBED_ENV"] == "vm"
    assert inside["TESTBED_VM_KERNEL"] == "Debian 6.1"
    assert inside["MORE"] == "1"
    assert "SSH_AUTH_SOCK" not in inside


def test_a_share_within_a_share_is_one(tmp_path: Path) -> None:
    inner = tmp_path / "a/b"
    inner.mkdir(parents=True)
    other = tmp_path / "c"
    other.mkdir()
    shared = qemu._outermost([inner, tmp_path / "a", other, Path("/"), inner])
    assert sorted(shared) == [tmp_path / "a", other]


def test_the_key_of_an_image_follows_its_sources_only(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("a = 1\n")
    before = image._key([tmp_path])
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/module.cpython-311.pyc").write_bytes(b"compiled")
    assert image._key([tmp_path]) == before
    source.write_text("a = 12\n")
    assert image._key([tmp_path]) != before


def test_the_image_holds_the_interpreter_and_its_packages() -> None:
    trees = image.interpreter_trees()
    for module in (subprocess, pytest):
        assert module.__file__
        assert any(Path(module.__file__).is_relative_to(tree) for tree in trees)
