"""What holds for every test."""

import signal


def pytest_configure() -> None:
    """Take Ctrl-C even where a shell started the run in the background with SIGINT ignored.

    What tests start inherits that, and some of it is interrupted to see what it leaves.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
