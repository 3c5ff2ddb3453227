"""Which addresses of a target are measured: one of each family, that takes a connection."""

from collections.abc import Sequence
from dataclasses import dataclass

from echokit.errors import DialError, ResolveError
from echokit.loadgen.measured import FAMILIES, FamilyName
from echokit.loadgen.settings import SOCKET_FAMILIES, LoadSettings
from echokit.net.address import Address, Endpoint, resolve
from echokit.net.dial import dial

__all__ = ["Targets", "find_targets"]


@dataclass(frozen=True, slots=True)
class Targets:
    """What of a target can be measured.

    Attributes:
        addresses: Where each family is measured.
        skipped: The families that it has, and that cannot be measured; and why.
    """

    addresses: dict[FamilyName, Address]
    skipped: dict[FamilyName, str]


def find_targets(host: str, port: int, settings: LoadSettings) -> Targets:
    """Resolve `host`, and connect once over each family that it has.

    Raises:
        ResolveError: It has no address (of the family asked for).
        DialError: None of its addresses takes a connection.
    """
    timeout = settings.connect_timeout
    resolved = resolve(host, port, settings.family, timeout=timeout)
    families = {address.family for address in resolved}
    addresses: dict[FamilyName, Address] = {}
    failures: dict[FamilyName, DialError] = {}
    for name in FAMILIES:
        if SOCKET_FAMILIES[name] not in families:
            continue
        try:
            dialed = dial(host, port, SOCKET_FAMILIES[name], timeout=timeout)
        except DialError as error:
            failures[name] = error
        except ResolveError:
            # It had an address of this family a moment ago: the resolver has changed its mind.
            continue
        else:
            dialed.sock.close()
            addresses[name] = dialed.address
    if not addresses:
        raise _nobody(Endpoint(host, port), list(failures.values()))
    return Targets(addresses, {name: str(error) for name, error in failures.items()})


def _nobody(endpoint: Endpoint, failures: Sequence[DialError]) -> DialError:
    attempts = [attempt for failure in failures for attempt in failure.failures]
    return DialError(str(endpoint), attempts)
