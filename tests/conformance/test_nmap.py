"""nmap finds out what kind of server ours is, from nothing but how it answers."""

import socket
import subprocess

import pytest

from echokit.testing import RunningServer
from tests.conformance.programs import DEADLINE, tool


@pytest.mark.slow
def test_its_service_probe_names_the_port_echo(
    family: socket.AddressFamily, echokit_server: RunningServer
) -> None:
    # This host and this port alone, no ping, no names. -sT: without root, as with it. It waits
    # some seconds for each probe's answer; the light version sends the same ones first, and fewer.
    command = [tool("nmap"), "-sT", "-sV", "--version-light", "-Pn", "-n", "-oG", "-"]
    if family == socket.AF_INET6:
        command.append("-6")
    command += ["-p", str(echokit_server.port), echokit_server.host]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, timeout=3 * DEADLINE, text=True
    )
    # The port is no known one: the name is what the probes came to.
    assert f"Ports: {echokit_server.port}/open/tcp//echo///" in done.stdout
