"""What the kernel knows of a TCP connection: TCP_INFO, tcp(7)."""

import socket
import struct
from typing import NamedTuple

__all__ = ["TcpInfo", "tcp_info"]

# `struct tcp_info` of linux/tcp.h: tcpi_rtt and tcpi_rttvar in microseconds, tcpi_total_retrans.
_SIZE = 104
_RTT = struct.Struct("@II")
_RTT_AT = 68
_RETRANSMITS = struct.Struct("@I")
_RETRANSMITS_AT = 100


class TcpInfo(NamedTuple):
    """Some of TCP_INFO.

    Attributes:
        rtt_us: The smoothed round-trip time (RFC 6298), in microseconds; 0 where none was taken.
        rttvar_us: Its mean deviation, in microseconds.
        retransmits: How many segments were sent again.
    """

    rtt_us: int
    rttvar_us: int
    retransmits: int


def tcp_info(sock: socket.socket) -> TcpInfo | None:
    """What the kernel says of `sock`; None where it says nothing, or in another way than Linux."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None or not hasattr(socket, "TCP_QUICKACK"):
        # TCP_QUICKACK is Linux's alone: others have a TCP_INFO of another shape.
        return None
    try:
        found = sock.getsockopt(socket.IPPROTO_TCP, option, _SIZE)
    except OSError:
        return None
    if len(found) < _SIZE:
        return None
    (retransmits,) = _RETRANSMITS.unpack_from(found, _RETRANSMITS_AT)
    rtt_us, rttvar_us = _RTT.unpack_from(found, _RTT_AT)
    return TcpInfo(rtt_us, rttvar_us, retransmits)
