"""The same command in a VM, at work beside this process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from testbed import vm
from testbed.errors import TestbedError

ENDING_SECONDS = 10.0


class Guest:
    """A context manager: `argv` runs in a VM until it is left. What it prints is JSON; stderr is shared."""

    def __init__(self, argv: Sequence[str]) -> None:
        print(f"in a VM ({vm.described()}): {' '.join(argv[3:])}", file=sys.stderr, flush=True)
        self._output = tempfile.TemporaryFile()
        words = [sys.executable, "-m", "testbed.cli.main", "vm", "run", "--", *argv]
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self._output)

    def result(self) -> Any:
        """What it printed, when it has ended. Raises TestbedError when that is nothing of use."""
        code = self._process.wait()
        self._output.seek(0)
        try:
            return json.load(self._output)
        except ValueError:
            raise TestbedError(f"the VM's part ended with {code}; what went wrong is said above") from None

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_SECONDS)
        self._process.kill()
        self._process.wait()
        self._output.close()
