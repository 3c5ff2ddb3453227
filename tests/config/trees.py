"""What the config tests share: valid configs, nearly valid ones, and both as YAML and TOML."""

import io
import json
import math
from typing import Any

from hypothesis import strategies as st
from ruamel.yaml import YAML

from echokit.config import Config
from echokit.framing.base import Framing
from echokit.framing.delimited import Delimited
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw

__all__ = ["as_toml", "as_yaml", "configs", "trees"]


def as_yaml(tree: Any) -> str:
    """`tree` as YAML, by another's writer."""
    yaml = YAML(typ="safe", pure=True)
    # One object may stand in a tree twice; a file has no use for that.
    yaml.representer.ignore_aliases = lambda *_: True
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()


def as_toml(table: dict[str, Any], header: str = "") -> str:
    """`table` as TOML, with its tables under headers of their own."""
    lines = [f"[{header}]"] if header else []
    later = []
    for key, value in table.items():
        if isinstance(value, dict):
            later.append(as_toml(value, f"{header}{'.' if header else ''}{_toml(key)}"))
        else:
            lines.append(f"{_toml(key)} = {_toml(value)}")
    return "\n".join([*lines, *later])


def _toml(value: Any) -> str:
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(key)} = {_toml(item)}' for key, item in value.items())}}}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


seconds = st.floats(0.001, 86400, allow_nan=False) | st.integers(1, 86400)
limits = st.sampled_from([0, 1, 255]) | st.integers(0, 1 << 40)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)

_framings: st.SearchStrategy[Framing] = st.one_of(
    st.just(Raw()),
    st.builds(
        lambda prefix, order, limit: LengthPrefixed(
            prefix_bytes=prefix, byte_order=order, max_message=min(limit, 256**prefix - 1)
        ),
        st.sampled_from([1, 2, 4, 8]),
        st.sampled_from(["big", "little"]),
        limits,
    ),
    st.builds(Delimited, delimiter=texts, max_message=limits),
)
# Among the hosts are words that other readers of YAML take for numbers, times and booleans.
_hosts = st.sampled_from(
    [
        *("localhost", "", "*", "127.0.0.1", "::", "::1", "fe80::1%eth0", "::ffff:192.0.2.1"),
        *("yes", "no", "on", "null", "true", "2001-01-01", "x.", "münchen"),
    ]
)

_networks = st.lists(
    st.sampled_from(["0.0.0.0/0", "::/0", "192.0.2.0/24", "2001:db8::/32", "::1", "10.1.2.3"]),
    max_size=3,
)
# Each of them may be left out; those that must be in order are.
server_limits = st.fixed_dictionaries(
    {},
    optional={
        "max_connections": st.just(0) | st.integers(100, 10_000_000),
        "max_connections_per_peer": st.integers(0, 100),
        "idle_timeout": st.sampled_from([0, "10s"]) | st.integers(100, 86400),
        "message_timeout": st.floats(0, 10),
        "send_timeout": st.floats(0, 100),
        "tcp_user_timeout": st.just(0) | st.integers(100, 86400),
        "max_lifetime": st.just(0) | seconds,
        "drain_timeout": seconds | st.just("1m30s"),
        "keepalive": st.sampled_from([0, 1, "1m30s"]),
        "max_message": st.none() | limits,
        "send_buffer": st.sampled_from([0, "64k"]),
        "receive_buffer": st.integers(0, 1 << 30),
        "allow": _networks,
        "deny": _networks | st.just("::1, 192.0.2.0/24"),
    },
)

configs: st.SearchStrategy[Config] = st.builds(
    lambda **values: Config.model_validate(values),
    host=_hosts,
    port=st.integers(0, 65535),
    family=st.sampled_from(["AF_UNSPEC", "AF_INET", "AF_INET6", "any", "ipv4", "ipv6"]),
    chunk_size=st.integers(1, 16 << 20) | st.sampled_from(["1", "64k", "16MiB", "2MB"]),
    framing=_framings,
    segment=st.none()
    | st.sampled_from(["random", "joined", "1,3", 7])
    | st.lists(st.integers(1, 16 << 20), min_size=1, max_size=4),
    segment_delay=st.floats(0, 3600) | st.sampled_from([0, "1ms"]),
    seed=st.none() | st.integers(0, (1 << 63) - 1),
    server=st.fixed_dictionaries(
        {
            "output": st.sampled_from(["transcript", "json", "quiet"]),
            "backlog": st.integers(1, 65535),
            "limits": server_limits,
        }
    ),
    client=st.fixed_dictionaries(
        {
            "output": st.sampled_from(["transcript", "raw", "json", "quiet"]),
            "connect_timeout": seconds,
            "timeout": seconds | st.just("250ms"),
        }
    ),
)

_leaves: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 1, 7, 65535, 65536, 10**30]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["raw", "length-prefixed", "delimited", "json", "AF_INET", "64k", "5s", "::"]),
    st.dates(),
)
_words = st.sampled_from(
    [
        *("host", "port", "family", "chunk_size", "framing", "server", "client", "type", "output"),
        *("segment", "segment_delay", "seed"),
        *("prefix_bytes", "byte_order", "max_message", "delimiter", "backlog", "timeout", "prot"),
    ]
)
_anything = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_words | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
_options = st.dictionaries(_words, _anything, max_size=4)
# Half of the trees have a config's shape, so that what is wrong stands where it is looked at.
trees: st.SearchStrategy[Any] = st.one_of(
    _anything,
    st.fixed_dictionaries(
        {},
        optional={
            "host": _leaves,
            "port": _leaves,
            "family": _leaves,
            "chunk_size": _leaves,
            "framing": _anything
            | st.builds(
                lambda name, options: {**options, "type": name},
                st.sampled_from(["raw", "length-prefixed", "delimited"]),
                _options,
            ),
            "segment": _anything,
            "segment_delay": _leaves,
            "seed": _leaves,
            "server": _anything | _options,
            "client": _anything | _options,
        },
    ),
)
