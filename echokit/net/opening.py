"""Which kind of connection a connected socket becomes."""

import socket

from echokit.framing.base import Framing
from echokit.net.address import Address
from echokit.net.connection import Connection
from echokit.net.handler import Handler
from echokit.net.reactor import Reactor
from echokit.net.segment import JOINED, Segmentation, Segments
from echokit.net.segmented import Cut, Joined
from echokit.net.straight import Pipe, Straight

__all__ = ["open_connection"]


def open_connection(
    reactor: Reactor,
    sock: socket.socket,
    peer: Address,
    framing: Framing,
    chunk_size: int,
    handler: Handler,
    *,
    full_duplex: bool = False,
    echo: bool = False,
    pipe: Pipe | None = None,
    segmentation: Segmentation | None = None,
    number: int = 0,
) -> Connection:
    """A connection on `sock`: see `Connection` for what is given.

    With `echo` a transparent framing's chunks go straight back, much at once through `pipe`.
    With `segmentation` it sends as that has it; `number` tells it from others.
    """
    if segmentation is not None:
        kind = Joined if segmentation.how == JOINED else Cut
        segments = Segments(segmentation, number)
        return kind(
            reactor, sock, peer, framing, chunk_size, handler, segments, full_duplex=full_duplex
        )
    if echo and framing.transparent:
        return Straight(reactor, sock, peer, framing, chunk_size, handler, pipe)
    return Connection(
        reactor, sock, peer, framing, chunk_size, handler, full_duplex=full_duplex, echo=echo
    )
