"""The least that `echokit send` could be: typer, a model of pydantic's, a socket.

It has as many options as `echokit send`, and takes the same short cuts to start, but checks
nothing: what it costs is what those two libraries cost.

usage: python typer_send.py MESSAGE --host HOST --port PORT
"""

import gc
import os
import socket
from inspect import Parameter, Signature
from typing import Annotated

if __name__ == "__main__":
    gc.disable()
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

import typer
from pydantic import BaseModel

# Beside --host and --port.
TEXTS = 12
FLAGS = 2


class Server(BaseModel):
    """Where the message goes."""

    host: str
    port: int


def send(message: str, **options: str | bool | None) -> None:
    """Send the message, and print what comes back first."""
    server = Server.model_validate({"host": options["host"], "port": options["port"]})
    with socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(message.encode())
        print(connection.recv(1 << 16).decode())


def signature() -> Signature:
    """The argument and the options, as typer is to read them."""
    kind = Parameter.KEYWORD_ONLY
    text, flag = Annotated[str | None, typer.Option()], Annotated[bool, typer.Option()]
    texts = ["host", "port", *(f"text_{number}" for number in range(TEXTS))]
    flags = [f"flag_{number}" for number in range(FLAGS)]
    return Signature(
        [
            Parameter("message", Parameter.POSITIONAL_OR_KEYWORD, annotation=str),
            *(Parameter(name, kind, default=None, annotation=text) for name in texts),
            *(Parameter(name, kind, default=False, annotation=flag) for name in flags),
        ]
    )


if __name__ == "__main__":
    vars(send)["__signature__"] = signature()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(send)
    gc.freeze()
    app()
