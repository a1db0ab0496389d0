"""Reading a bzImage: version and payload, by its setup header."""

import lzma
import struct
from pathlib import Path

import pytest

from testbed.errors import UsageError
from testbed.vm import kernels

SECTORS = 2  # of the real-mode code, after the boot sector


def bzimage(payload: bytes, version: bytes = b"6.9.0-test (someone@host) #1\0") -> bytes:
    image = bytearray(512 * (SECTORS + 1))
    image[0x1F1] = SECTORS
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x20E, 0x100)
    image[0x300 : 0x300 + len(version)] = version
    struct.pack_into("<II", image, 0x248, 16, len(payload))
    return bytes(image) + bytes(16) + payload + b"what follows"


def test_version() -> None:
    assert kernels._version(bzimage(b"")) == "6.9.0-test"


def test_what_is_no_kernel_is_refused() -> None:
    with pytest.raises(UsageError, match="no x86 bzImage kernel: name a vmlinuz file"):
        kernels._version(bytes(4096))


@pytest.mark.parametrize("pack", [lzma.compress, kernels.gzip.compress])
def test_the_payload_is_unpacked(pack) -> None:
    elf = b"\x7fELF" + bytes(range(256)) * 40
    payload = pack(elf) + struct.pack("<I", len(elf))
    assert kernels._vmlinux(bzimage(payload)) == elf


def test_an_unknown_packing_is_booted_as_it_is() -> None:
    image = bzimage(b"unheard of")
    assert kernels._vmlinux(image) == image


def test_a_named_kernel_needs_its_modules(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    vmlinuz = tmp_path / "boot/vmlinuz"
    with pytest.raises(UsageError, match="no kernel at"):
        kernels.named(vmlinuz)
    vmlinuz.write_bytes(bzimage(b""))
    with pytest.raises(UsageError, match=r"no modules for .*lib/modules/6.9.0-test"):
        kernels.named(vmlinuz)
    modules = tmp_path / "lib/modules/6.9.0-test"
    modules.mkdir(parents=True)
    (modules / "modules.dep").touch()
    assert kernels.named(vmlinuz).modules == modules
