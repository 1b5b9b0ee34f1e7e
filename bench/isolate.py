"""A loopback of this process's own, so that the kernel's counters tell what it alone sent.

A network namespace needs root, or a kernel that lets anybody have one within a user namespace. Where neither is given,
the machine's own loopback is used, and its counters tell what everybody sent.
"""

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Final

_NEWNET: Final = 0x40000000
_NEWUSER: Final = 0x10000000
_SET_FLAGS: Final = 0x8914  # SIOCSIFFLAGS
_UP: Final = 1


def isolate() -> bool:
    """Move this process to an empty network with a loopback; whether that worked. Call before threads and sockets."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare") or (libc.unshare(_NEWNET) and libc.unshare(_NEWUSER | _NEWNET)):
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP))
    return True


def datagrams_out() -> int:
    """How many UDP datagrams left sockets of this process's network."""
    rows = [line.split() for line in Path(f"/proc/{os.getpid()}/net/snmp").read_text().splitlines()]
    head, values = (row for row in rows if row[0] == "Udp:")
    return int(values[head.index("OutDatagrams")])
