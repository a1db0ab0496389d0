"""Files with holes: the beginning of a file given back to the file system while it is being written to."""

from __future__ import annotations

import ctypes
import errno
import os

_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
_libc = ctypes.CDLL(None, use_errno=True)


def punch(descriptor: int, length: int) -> None:
    """Free the first `length` bytes, which read as zeros from then on (fallocate(2)).

    Raises OSError where the file system has no holes.
    """
    offset, size = ctypes.c_long(0), ctypes.c_long(length)
    if _libc.fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, offset, size) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def first_data(descriptor: int) -> int:
    """Where the first bytes are that were not given back; the end of the file if there are none."""
    try:
        return os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return os.lseek(descriptor, 0, os.SEEK_END)
        raise
