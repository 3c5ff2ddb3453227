"""Servers that do wrong, for the load generators to notice."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["CLOSING", "SILENT", "Answer", "serving"]

# What a server answers to a chunk, before which it has received so many bytes on the connection.
Answer = Callable[[bytes, int], bytes]
# Answers that are none.
CLOSING = b"\0close"
SILENT = b""


@contextmanager
def serving(family: socket.AddressFamily, host: str, answer: Answer) -> Iterator[int]:
    """Serve in a thread until the block ends; the port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            before = 0
            with contextlib.suppress(ConnectionError):
                while data := self.request.recv(65536):
                    out = answer(data, before)
                    before += len(data)
                    if out is CLOSING:
                        return
                    self.request.sendall(out)

    class Server(socketserver.ThreadingTCPServer):
        address_family = family
        # Closing the server waits for the threads of its connections.
        daemon_threads = False
        request_queue_size = 128

    with Server((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
