"""echokit's own server in another process, on loopback.

It is measured where no target is given, and the generator is calibrated against it.
"""

import contextlib
from typing import Self

from echokit.framing.base import Framing
from echokit.loadgen.child import Child, channel
from echokit.loadgen.measured import FamilyName
from echokit.loadgen.settings import FAMILY_NAMES
from echokit.net.address import Address
from echokit.net.listen import loopback_families
from echokit.server import EchoServer

__all__ = ["OwnServer", "main"]

_CHUNK_SIZE = 65536

Addresses = dict[FamilyName, Address]


class OwnServer:
    """A server process for `framing`, on the loopback of every family; a context manager.

    Attributes:
        addresses: Where it listens.

    Raises:
        OSError: It cannot listen.
        ChildDied: The process could not be had.
    """

    def __init__(self, framing: Framing) -> None:
        self._child = Child("echokit.loadgen.own_server", "echokit's own server")
        try:
            self._child.send(framing)
            self.addresses: Addresses = self._child.receive()
        except BaseException:
            self._child.close()
            raise

    def close(self) -> None:
        """End it."""
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def main() -> None:
    """Serve until nobody is there any more."""
    with channel() as asked, contextlib.ExitStack() as serving:
        try:
            framing = asked.recv()
        except (EOFError, OSError):
            return
        try:
            servers = {FAMILY_NAMES[family]: serving.enter_context(
                EchoServer(literal, 0, family=family, chunk_size=_CHUNK_SIZE, framing=framing)
            ) for family, literal in loopback_families()}  # fmt: skip
        except OSError as error:
            with contextlib.suppress(OSError):
                asked.send(error)
            return
        # However its parent ends, it is no error here.
        with contextlib.suppress(EOFError, OSError):
            asked.send({name: server.addresses[0] for name, server in servers.items()})
            asked.recv()
        # What is still connected is of no use to anybody.
        for server in servers.values():
            server.stop()
            server.stop()


if __name__ == "__main__":
    main()
