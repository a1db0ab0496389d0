"""`make setup` where it cannot work: one line that says what is needed, and nothing is touched."""

import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "playbooks/setup"


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("ID=fedora\nVERSION_ID=43\nPRETTY_NAME='Fedora Linux 43'\n", "Fedora Linux 43"),
        ("ID=debian\nVERSION_ID=11\nPRETTY_NAME='Debian 11'\n", "Debian 11"),
        ("ID=ubuntu\nVERSION_ID=22.04\nPRETTY_NAME='Ubuntu 22.04'\n", "Ubuntu 22.04"),
        ("", "an unknown system"),
    ],
)
def test_another_system_is_told_what_is_needed(release: str, name: str, tmp_path: Path) -> None:
    other = tmp_path / "os-release"
    other.write_text(release)
    # In a mount namespace of its own: the host's file stays what it is.
    line = f"mount --bind {other} /etc/os-release && exec {SETUP}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", line], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"setup: needs Debian 12 or Ubuntu 24.04, or newer; this is {name}\n"
