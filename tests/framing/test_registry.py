"""Framings by name: those built in, those that plugins bring, and plugins that are broken."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from echokit.config import Config, load
from echokit.errors import ConfigError
from echokit.framing import registry
from echokit.framing.base import Framing
from echokit.framing.delimited import Delimited
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw
from echokit.framing.registry import framing_class, framing_names, framing_origin

BUILT_IN: dict[str, type[Framing]] = {
    "raw": Raw,
    "length-prefixed": LengthPrefixed,
    "delimited": Delimited,
}
Install = Callable[..., None]

GOOD = """
    from typing import Literal

    from pydantic import Field

    from echokit import Framing, LengthPrefixed


    class Doubled(Framing):
        type: Literal["doubled"] = "doubled"
        copies: int = Field(2, ge=1)

        def decoder(self):
            return LengthPrefixed().decoder()

        def encode(self, message):
            return LengthPrefixed().encode(message) * self.copies
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution with one framing: what pip would leave behind, and no more."""
    modules: list[str] = []

    def install(module: str, source: str, framing: str, name: str, version: str = "1.2") -> None:
        site = tmp_path / f"site-{name}"
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[echokit.framings]\n{framing}\n")
        (site / f"{module}.py").write_text(dedent(source))
        monkeypatch.syspath_prepend(site)
        importlib.invalidate_caches()
        modules.append(module)

    yield install
    for module in modules:
        sys.modules.pop(module, None)


def _refused(name: str) -> str:
    """The one line that says why the framing `name` cannot be had."""
    with pytest.raises(ConfigError) as caught:
        framing_class(name)
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return problem


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_built_in_is_found_without_looking_for_plugins(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: str) -> None:
        pytest.fail("the installed distributions were searched")

    monkeypatch.setattr(registry, "entry_points", refuse)
    assert framing_class(name) is BUILT_IN[name]
    assert framing_origin(name) == "built in"
    assert BUILT_IN[name].model_fields["type"].default == name
    assert Config.model_validate({"framing": name}).framing == BUILT_IN[name].model_validate({})


def test_the_names_are_those_built_in_where_nothing_else_is_installed() -> None:
    assert framing_names() == list(BUILT_IN)


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    assert _refused("morse") == (
        "no framing is called 'morse' (known: raw, length-prefixed, delimited)"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [("lenght-prefixed", "length-prefixed"), ("delimted", "delimited"), ("row", "raw")],
)
def test_a_near_miss_is_told_with_what_was_meant(name: str, meant: str) -> None:
    assert f"did you mean {meant!r}?" in _refused(name)


def test_a_near_miss_of_a_plugin_is_told_too(install: Install) -> None:
    install("doubled_plugin", GOOD, "doubled = doubled_plugin:Doubled", "doubled-framing")
    assert "did you mean 'doubled'?" in _refused("dubled")


def test_a_plugin_is_found_by_its_name_and_says_where_it_is_from(install: Install) -> None:
    install("doubled_plugin", GOOD, "doubled = doubled_plugin:Doubled", "doubled-framing")
    assert framing_names() == [*BUILT_IN, "doubled"]
    assert framing_origin("doubled") == "doubled-framing 1.2"
    # Neither of which imports it.
    assert "doubled_plugin" not in sys.modules
    found = framing_class("doubled")
    assert (found.__module__, found.__name__) == ("doubled_plugin", "Doubled")
    assert found.model_validate({"type": "doubled"}).encode(b"x") == b"\0\0\0\1x" * 2


def test_a_plugins_options_are_read_and_checked_as_those_built_in(
    install: Install, tmp_path: Path
) -> None:
    install("doubled_plugin", GOOD, "doubled = doubled_plugin:Doubled", "doubled-framing")
    file = tmp_path / "echo.yaml"
    file.write_text("framing:\n  type: doubled\n  copies: 3\n")
    assert load(file).framing.encode(b"") == b"\0\0\0\0" * 3
    file.write_text("framing:\n  type: doubled\n  copies: 0\n  copise: 3\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.problems == (
        f"{file}:3:11: framing.copies: should be greater than or equal to 1; found 0",
        f"{file}:4:3: framing.copise: unknown key; did you mean 'copies'?",
    )


def test_a_plugin_cannot_take_the_name_of_what_is_built_in(install: Install) -> None:
    install("thief", "raise SystemError('imported')", "raw = thief:Raw", "thief")
    assert framing_class("raw") is Raw
    assert framing_origin("raw") == "built in"
    assert framing_names() == list(BUILT_IN)


@pytest.mark.parametrize(
    ("source", "point", "cause"),
    [
        ("raise OSError('no\\ncodec')", "broken_plugin:Broken", "OSError: no codec"),
        ("import no_such_codec", "broken_plugin:Broken", "No module named 'no_such_codec'"),
        ("Broken = (", "broken_plugin:Broken", "SyntaxError: "),
        ("", "broken_plugin:Broken", "AttributeError: "),
        ("", "no_such_plugin:Broken", "No module named 'no_such_plugin'"),
        ("Broken = 3", "broken_plugin:Broken", "no subclass of echokit.Framing"),
        ("class Broken: type = 'broken'", "broken_plugin:Broken", "no subclass of echokit.Framing"),
        ("import echokit; Broken = echokit.Raw()", "broken_plugin:Broken", "no subclass"),
        ("import echokit; Broken = echokit.Raw", "broken_plugin:Broken", "the type 'broken'"),
        ("import echokit; Broken = echokit.Framing", "broken_plugin:Broken", "the type 'broken'"),
    ],
)  # fmt: skip
def test_a_broken_plugin_is_told_with_its_distribution_and_the_cause(
    install: Install, source: str, point: str, cause: str
) -> None:
    install("broken_plugin", source, f"broken = {point}", "broken-framing", "0.7")
    problem = _refused("broken")
    assert problem.startswith("framing 'broken' of broken-framing 0.7 cannot be used: ")
    assert cause in problem


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        # Without decoder() and encode() there is nothing that could be made.
        ("", "abstract"),
        (
            """
                def decoder(self): ...
                def encode(self, message): ...
                @pydantic.model_validator(mode="after")
                def check(self): raise OSError("no codec")
            """,
            "OSError: no codec",
        ),
    ],
    ids=["abstract", "raises when it is made"],
)
def test_a_plugin_that_cannot_be_made_is_told_with_its_distribution_and_the_cause(
    install: Install, tmp_path: Path, body: str, cause: str
) -> None:
    source = dedent("""
        from typing import Literal
        import echokit
        import pydantic
        class Broken(echokit.Framing):
            type: Literal["broken"] = "broken"
    """) + "".join(f"    {line.strip()}\n" for line in body.splitlines() if line.strip())
    install("broken_plugin", source, "broken = broken_plugin:Broken", "broken-framing", "0.7")
    file = tmp_path / "echo.yaml"
    file.write_text("port: 7\nframing: broken\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert "framing 'broken' of broken-framing 0.7 cannot be used" in problem
    assert cause in problem


@pytest.mark.parametrize(
    ("option", "found", "place"),
    [
        ("Sub | None = None", "{depth: 1}", "framing.option.depth"),
        ("list[Sub] = []", "[{depth: 1}]", "framing.option.0.depth"),
        ("dict[str, Sub] = {}", "{one: {depth: 1}}", "framing.option.one.depth"),
    ],
)
def test_an_unknown_key_deep_inside_a_plugins_options_is_a_problem_like_any(
    install: Install, tmp_path: Path, option: str, found: str, place: str
) -> None:
    source = f"""
        from typing import Literal
        import echokit
        import pydantic
        class Sub(pydantic.BaseModel):
            model_config = pydantic.ConfigDict(extra="forbid")
            width: int = 1
        class Nested(echokit.Raw):
            type: Literal["nested"] = "nested"
            option: {option}
    """
    install("nested_plugin", source, "nested = nested_plugin:Nested", "nested-framing")
    file = tmp_path / "echo.yaml"
    file.write_text(f"framing:\n  type: nested\n  option: {found}\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert f"{place}: unknown key" in problem


def test_a_name_that_two_distributions_bring_is_told_with_both(install: Install) -> None:
    install("first_plugin", GOOD, "doubled = first_plugin:Doubled", "first-framing", "1.0")
    install("second_plugin", GOOD, "doubled = second_plugin:Doubled", "second-framing", "2.0")
    assert _refused("doubled") == (
        "framing 'doubled' is brought by more than one distribution: "
        "first-framing 1.0, second-framing 2.0"
    )
    # It stands in the list all the same, once.
    assert framing_names() == [*BUILT_IN, "doubled"]


def test_a_broken_plugin_does_not_stand_in_the_way_of_another(install: Install) -> None:
    install("broken_plugin", "raise OSError", "broken = broken_plugin:Broken", "broken-framing")
    install("doubled_plugin", GOOD, "doubled = doubled_plugin:Doubled", "doubled-framing")
    assert framing_class("doubled").__name__ == "Doubled"
    assert framing_names() == [*BUILT_IN, "broken", "doubled"]
