"""The cpio archive and the order of modules, judged by the tools that read them elsewhere."""

import io
import subprocess
from pathlib import Path

from testbed.vm import initramfs


def test_busybox_unpacks_the_archive(tmp_path: Path) -> None:
    archive = initramfs.cpio(
        {"bin/hello": (0o755, b"#!/bin/sh\necho hello\n"), "empty": (0o644, b"")}, ("bin", "proc")
    )
    subprocess.run(["busybox", "cpio", "-i"], input=archive, cwd=tmp_path, check=True, capture_output=True)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == [
        "bin",
        "bin/hello",
        "empty",
        "proc",
    ]
    said = subprocess.run([tmp_path / "bin/hello"], capture_output=True, text=True, check=True)
    assert said.stdout == "hello\n"


def test_each_header_begins_on_a_word() -> None:
    archive = io.BytesIO(initramfs.cpio({"a": (0o644, b"12345"), "bc": (0o644, b"")}))
    data = archive.getvalue()
    starts = [i for i in range(len(data)) if data.startswith(b"070701", i)]
    assert len(starts) == 3
    assert [start % 4 for start in starts] == [0, 0, 0]


def test_a_module_comes_after_what_it_depends_on(tmp_path: Path) -> None:
    # modules.dep lists direct and indirect dependencies, the one to be loaded first last.
    (tmp_path / "modules.dep").write_text(
        "kernel/fs/9p/9p.ko.xz: kernel/fs/netfs/netfs.ko.xz kernel/net/9p/9pnet.ko.xz\n"
        "kernel/net/9p/9pnet.ko.xz:\n"
        "kernel/fs/netfs/netfs.ko.xz:\n"
        "kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/drivers/virtio/virtio.ko.xz\n"
        "kernel/drivers/virtio/virtio.ko.xz:\n"
    )
    order = [module.name.split(".")[0] for module in initramfs._in_order(tmp_path)]
    assert order == ["virtio", "9pnet", "9pnet_virtio", "netfs", "9p"]
