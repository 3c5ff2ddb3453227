"""One attempt to connect, without waiting: how it is begun, and how it has ended."""

import errno
import os
import socket

from echokit.net.address import Address

__all__ = ["begin_connect", "connect_error"]


def begin_connect(address: Address) -> socket.socket:
    """A non-blocking socket that is connecting to `address`, or has; writable once it is decided.

    Raises:
        OSError: It could not even begin.
    """
    sock = socket.socket(address.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect(address.sockaddr)
    except BlockingIOError:
        pass
    except BaseException:
        sock.close()
        raise
    return sock


def connect_error(sock: socket.socket) -> OSError | None:
    """Why `sock`, whose attempt is decided, has not connected; None where it has."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or _self_connected(sock)
    return OSError(code, os.strerror(code)) if code else None


def _self_connected(sock: socket.socket) -> int:
    """ECONNREFUSED where `sock` has connected to itself, else 0.

    A port of the ephemeral range that nobody listens on can be given to the very socket that
    dials it, which then talks to itself (RFC 9293 section 3.5, simultaneous open). It would echo.
    """
    try:
        return errno.ECONNREFUSED if sock.getsockname() == sock.getpeername() else 0
    except OSError as error:
        # Connected, and reset before this was asked.
        return error.errno or errno.ENOTCONN
