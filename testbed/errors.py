"""Errors that a user can cause or must know of. Each is one line: what is wrong, where, what to do."""


class TestbedError(Exception):
    """Something failed that a user should read about in one line. The command exits with code 1."""

    __test__ = False  # the name starts with "Test"; pytest must not collect it
    exit_code = 1


class UsageError(TestbedError):
    """The command was used wrongly, or this machine cannot do what was asked. It exits with code 2."""

    exit_code = 2
