"""What the kernel says of a connection."""

import socket

import pytest

from echokit.net.tcp_info import tcp_info

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "TCP_QUICKACK"), reason="its shape is that of Linux"
)


def test_a_connection_that_has_exchanged_something_has_a_round_trip_time(
    family: socket.AddressFamily, host: str
) -> None:
    with (
        socket.create_server((host, 0), family=family) as listener,
        socket.create_connection(listener.getsockname()[:2]) as ours,
    ):
        theirs, _ = listener.accept()
        with theirs:
            ours.sendall(b"ping")
            assert theirs.recv(4) == b"ping"
            theirs.sendall(b"pong")
            assert ours.recv(4) == b"pong"
            found = tcp_info(ours)
    assert found is not None
    assert 0 < found.rtt_us < 1_000_000
    assert 0 <= found.rttvar_us < 1_000_000
    assert found.retransmits == 0


def test_what_is_no_tcp_connection_has_nothing(family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        assert tcp_info(sock) is None
    closed = socket.socket(family)
    closed.close()
    assert tcp_info(closed) is None


@pytest.mark.slow
def test_segments_sent_again_are_counted(family: socket.AddressFamily, host: str) -> None:
    # A SYN that the full queue of a listener drops is sent again after a second.
    with socket.socket(family) as listener, socket.socket(family) as first:
        listener.bind((host, 0))
        listener.listen(0)
        first.connect(listener.getsockname())
        with socket.socket(family) as hanging:
            hanging.settimeout(1.5)
            with pytest.raises(TimeoutError):
                hanging.connect(listener.getsockname())
            found = tcp_info(hanging)
    assert found is not None
    assert found.retransmits >= 1
