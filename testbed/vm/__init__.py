"""Small virtual machines: where a run goes when the running kernel lacks what it needs.

The root file system is the host's, read-only with a layer in memory above; the kernel is the distribution's
generic one. `run` is one command in one fresh machine.
"""

from testbed.vm.move import described, inside, move, needed, translates
from testbed.vm.qemu import run

__all__ = ["described", "inside", "move", "needed", "run", "translates"]
