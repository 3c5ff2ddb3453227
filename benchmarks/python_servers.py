"""The echo servers that are written first with each of Python's libraries, as their manuals do.

usage: python -m benchmarks.python_servers NAME ADDRESS
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, cast

BACKLOG = 4096
CHUNK = 65536
HEADER = 4


class EchoProtocol(asyncio.Protocol):
    """Bytes come, bytes go; nothing else, and no care for a peer that does not read."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)


async def protocol(address: str) -> None:
    """Echo with a transport and a protocol, on whichever loop runs."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(EchoProtocol, address, 0, backlog=BACKLOG)
    await server.serve_forever()


async def _stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _framed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            header = await reader.readexactly(HEADER)
            body = await reader.readexactly(int.from_bytes(header, "big"))
            writer.write(header + body)
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def streams(address: str, handle: Handle) -> None:
    """Echo with a reader and a writer."""
    server = await asyncio.start_server(handle, address, 0, backlog=BACKLOG)
    await server.serve_forever()


def with_uvloop(address: str) -> None:
    """The same protocol on uvloop."""
    import uvloop  # noqa: PLC0415 - optional, and only this server's

    uvloop.run(protocol(address))


def with_trio(address: str) -> None:
    """Echo with trio's streams."""
    import trio  # noqa: PLC0415 - optional, and only this server's

    async def handle(stream: trio.SocketStream) -> None:
        while data := await stream.receive_some(CHUNK):
            await stream.send_all(data)

    async def serve() -> None:
        await trio.serve_tcp(handle, 0, host=address, backlog=BACKLOG)

    trio.run(serve)


SERVERS: dict[str, Callable[[str], None]] = {
    "asyncio": lambda address: asyncio.run(protocol(address)),
    "uvloop": with_uvloop,
    "asyncio-streams": lambda address: asyncio.run(streams(address, _stream)),
    "asyncio-readexactly": lambda address: asyncio.run(streams(address, _framed)),
    "trio": with_trio,
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](sys.argv[2])
