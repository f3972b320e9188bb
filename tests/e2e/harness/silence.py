"""A network that loses everything of some connections, as one does whose firewall has forgotten them: no FIN, no RST."""

import ctypes
import os
import socket
import struct

_PIDFD_GETFD = 438
_SO_ATTACH_FILTER = 26
_libc = ctypes.CDLL(None, use_errno=True)


def _copy_of(pid, descriptor):
    """The socket behind another process's descriptor."""
    process = os.pidfd_open(pid)
    try:
        copy = _libc.syscall(_PIDFD_GETFD, process, descriptor, 0)
        if copy < 0:
            raise OSError(ctypes.get_errno(), f"pidfd_getfd of {pid}, {descriptor}")
        return socket.socket(fileno=copy)
    finally:
        os.close(process)


def _is_connection(found):
    return (found.family == socket.AF_INET and found.type == socket.SOCK_STREAM
            and not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _connections(pid):
    """(its own end, the other end) -> the socket, for each TCP connection of the process."""
    found = {}
    for descriptor in map(int, os.listdir(f"/proc/{pid}/fd")):
        try:
            if not os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith("socket:"):
                continue
            copy = _copy_of(pid, descriptor)
        except FileNotFoundError:  # closed meanwhile
            continue
        try:
            if _is_connection(copy):
                found[copy.getsockname(), copy.getpeername()] = copy
        except OSError:  # no peer: it is just being closed
            copy.close()
    return found


def silence(pid, others):
    """Both ends of every connection between the process and `others` hear nothing any more. New connections are
    not concerned. The number of those silenced."""
    program = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF: keep 0 bytes of each packet
    code = ctypes.create_string_buffer(program, len(program))
    own = _connections(pid)
    theirs = {}
    for other in others:
        theirs.update(_connections(other))
    count = 0
    for (here, there), end in own.items():
        other_end = theirs.get((there, here))
        if other_end is None:
            continue
        for each in (end, other_end):
            each.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER,
                            struct.pack("HL", 1, ctypes.addressof(code)))
        count += 1
    for each in (*own.values(), *theirs.values()):
        each.close()
    return count
