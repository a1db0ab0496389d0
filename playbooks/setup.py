"""Run setup.yml on this machine when one of its packages is missing or the role has changed since."""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from testbed.cli.check import missing_packages

PLAYBOOKS = Path(__file__).resolve().parent
ROLE = PLAYBOOKS / "roles/host"


def stamp() -> Path:
    """The file that says that this content of the role was applied here."""
    digest = hashlib.sha256()
    for path in sorted([PLAYBOOKS / "setup.yml", *ROLE.rglob("*.yml")]):
        digest.update(path.read_bytes())
    return Path(sys.prefix) / f"host-{digest.hexdigest()[:16]}"


def play() -> int:
    """Run the playbook, a line on stderr for each task; 0 when all went well."""
    import ansible_runner

    def tell(event: dict) -> bool:
        data = event.get("event_data", {})
        if event["event"] == "playbook_on_task_start":
            print(f"setup: {data.get('name', '')}", file=sys.stderr, flush=True)
        if event["event"] == "runner_on_failed" and not data.get("ignore_errors"):
            print(f"setup: {data.get('res', {}).get('msg', 'failed')}", file=sys.stderr, flush=True)
        return False  # nothing of it is kept

    with tempfile.TemporaryDirectory(prefix="testbed-setup-") as room:
        outcome = ansible_runner.run(
            private_data_dir=room,
            playbook=str(PLAYBOOKS / "setup.yml"),
            inventory="localhost ansible_connection=local\n",
            envvars={"ANSIBLE_LOCALHOST_WARNING": "False", "ANSIBLE_HOME": room},
            quiet=True,
            event_handler=tell,
        )
    return 0 if outcome.rc == 0 else 1


def main() -> int:
    """Returns the exit code: 0 ready, 1 the playbook failed, 2 only root can go on."""
    lacking = missing_packages(ROLE / "defaults/main.yml")
    done = stamp()
    if not lacking and done.exists():
        return 0
    if os.geteuid() != 0:
        if not lacking:
            return 0
        print(f"setup: needs root to install {' '.join(lacking)}: run make as root", file=sys.stderr)
        return 2
    # The programs of the virtual environment come first: ansible-runner looks for ansible-playbook on PATH.
    os.environ["PATH"] = f"{sys.prefix}/bin:{os.environ['PATH']}"
    code = play()
    if code == 0:
        done.touch()
    return code


if __name__ == "__main__":
    sys.exit(main())
