"""A worker process: a `Bench` that is told over a channel what to do.

The messages are a method's name and its arguments, as a tuple; each is answered by what the method
returns, or by the error that it raised. But for `interrupt`, which is not answered: it is for the
call that runs.
"""

import contextlib
import queue
import threading
from multiprocessing.connection import Connection

from echokit.loadgen.bench import Bench
from echokit.loadgen.child import channel

__all__ = ["main"]


def main() -> None:
    """Serve one bench until nobody asks any more."""
    # However its parent ends, it is no error here.
    with channel() as asked, contextlib.suppress(EOFError, OSError):
        plan = asked.recv()
        try:
            bench = Bench(plan)
        except Exception as error:  # noqa: BLE001 - raised in the parent
            asked.send(error)
            return
        asked.send(None)
        calls: queue.SimpleQueue[tuple[str, tuple[object, ...]] | None] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(asked, bench, calls), daemon=True).start()
        try:
            _serve(asked, bench, calls)
        finally:
            bench.close()


def _read(
    asked: Connection,
    bench: Bench,
    calls: "queue.SimpleQueue[tuple[str, tuple[object, ...]] | None]",
) -> None:
    """Take what comes while a turn runs."""
    try:
        while True:
            name, arguments = asked.recv()
            if name == "interrupt":
                bench.interrupt()
            else:
                calls.put((name, arguments))
    except (EOFError, OSError):
        bench.interrupt()
        calls.put(None)


def _serve(
    asked: Connection,
    bench: Bench,
    calls: "queue.SimpleQueue[tuple[str, tuple[object, ...]] | None]",
) -> None:
    while (call := calls.get()) is not None:
        name, arguments = call
        try:
            answer = getattr(bench, name)(*arguments)
        except Exception as error:  # noqa: BLE001 - raised in the parent
            answer = error
        asked.send(answer)


if __name__ == "__main__":
    main()
