"""What the Ansible roles repeat of the program is the same there and here."""

from testbed.lab.machine import SYSCTLS
from testbed.vm import bundle


def test_a_machine_has_the_parameters_that_a_namespace_has() -> None:
    assert bundle.role()["host_sysctls"] == dict(SYSCTLS)


def test_the_locked_versions_name_every_library_of_a_node() -> None:
    locked = {line.partition("==")[0] for line in bundle.LOCK.read_text().splitlines()}
    assert set(bundle.role()["host_node_libraries"]) <= locked
