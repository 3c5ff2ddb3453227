"""The page of a run as a browser shows it: what is drawn, and that no network is asked.

It needs Debian's chromium and chromium-driver.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from echokit.loadgen.report import html_page
from echokit.loadgen.result import Result
from tests.loadgen.pages import example, made_hostile, result_of, without_answers

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"
    ),
]

WIDTHS = (1280, 400)
Scheme = Literal["light", "dark"]
COLOURS = {"light": ("rgb(0, 114, 178)", "rgb(195, 82, 0)")}
COLOURS["dark"] = ("rgb(86, 180, 233)", "rgb(230, 159, 0)")


class Browser:
    """A headless Chromium that resolves no name, and tells what it was told and what it asked."""

    def __init__(self, folder: Path) -> None:
        options = Options()
        options.binary_location = CHROMIUM or ""
        for argument in (
            "--headless=new",
            # Chromium's sandbox is not to be had as root; the pages are our own.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self._folder = folder
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def open(self, source: str, width: int = 1280, scheme: Scheme = "light") -> None:
        """Open a page anew."""
        path = self._folder / "page.html"
        path.write_text(source, encoding="utf-8")
        self.resize(width)
        self.colour(scheme)
        self.complaints()
        self.requests()
        self.driver.get(path.as_uri())

    def resize(self, width: int) -> None:
        """Be `width` pixels wide."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def colour(self, scheme: Scheme) -> None:
        """Prefer light or dark."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def drawn(self) -> None:
        """Wait until the page has been told of a change, and drawn: that comes before a frame."""
        self.driver.execute_async_script(
            "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
        )

    def run(self, script: str) -> Any:
        """What `script` returns in the page."""
        return self.driver.execute_script(script)

    def complaints(self) -> list[str]:
        """What the console was told since the last call."""
        return [entry["message"] for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """What was asked for since the last call: of the network, files, data."""
        messages = [json.loads(e["message"])["message"] for e in self._log("performance")]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return entries


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests, as its start takes longest."""
    browser = Browser(tmp_path_factory.mktemp("pages"))
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="module")
def source() -> str:
    """The page of the example."""
    return html_page(result_of(example()))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_everything_is_drawn_and_nothing_is_asked_for(
    browser: Browser, source: str, width: int, scheme: Scheme
) -> None:
    browser.open(source, width, scheme)
    families = example()["families"]
    # IPv4 and IPv6, response and service; the spread of both; rates and p99 of both.
    lines = {
        chart: browser.run(
            f"return [...document.querySelectorAll('#{chart} .scatterlayer .js-line')]"
            ".map(line => [line.getTotalLength(), getComputedStyle(line).stroke])"
        )
        for chart in ("percentiles", "spread", "slices")
    }
    assert {chart: len(drawn) for chart, drawn in lines.items()} == {
        "percentiles": 4,
        "spread": 2,
        "slices": 4,
    }
    four, six = COLOURS[scheme]
    assert all(length > 100 for drawn in lines.values() for length, _ in drawn)
    assert [stroke for _, stroke in lines["percentiles"]] == [four, four, six, six]
    dots = browser.run(
        "return [...document.querySelectorAll('#slices .trace')]"
        ".map(trace => trace.querySelectorAll('.points path').length)"
    )
    assert dots == [len(families[name]["slices"]) for name in ("ipv4", "ipv6", "ipv4", "ipv6")]
    points = browser.run(
        "return document.getElementById('percentiles').data.map(trace => trace.y.at(-1))"
    )
    spans = [
        families[name][span]["max_us"] for name in families for span in ("response", "service")
    ]
    assert points == pytest.approx([value / 1e6 for value in spans])
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "document", [example(), made_hostile(), without_answers()], ids=["example", "hostile", "empty"]
)
def test_nothing_is_wider_than_the_page(
    browser: Browser, width: int, document: dict[str, Any]
) -> None:
    browser.open(html_page(result_of(document)), width)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.complaints() == []


@pytest.mark.parametrize("width", WIDTHS)
def test_verdicts_are_seen_without_scrolling(browser: Browser, source: str, width: int) -> None:
    browser.open(source, width)
    over = "const box = document.querySelector('.objectives').parentElement;"
    assert browser.run(f"{over} return box.scrollWidth - box.clientWidth") <= 0


def test_charts_follow_the_width_and_the_colours_of_the_page(browser: Browser, source: str) -> None:
    browser.open(source, 1280, "light")
    browser.run("document.title = 'the same page'")
    wide = browser.run(WIDTH)
    browser.colour("dark")
    browser.drawn()
    assert browser.run(STROKE) == COLOURS["dark"][0]
    browser.resize(400)
    browser.drawn()
    assert browser.run(WIDTH) < 400 < wide
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 24, 29)"
    )
    assert browser.driver.title == "the same page"


def test_it_is_printed_in_light_colours_as_wide_as_paper(browser: Browser, source: str) -> None:
    browser.open(source, 1280, "dark")
    before = browser.run(WIDTH)
    browser.run(
        "addEventListener('beforeprint', () => {"
        f" window.printed = [() => {{ {WIDTH} }}, () => {{ {STROKE} }}].map(read => read()) }})"
    )
    assert browser.driver.print_page()
    width, stroke = browser.run("return window.printed")
    assert width <= 680
    assert stroke == COLOURS["light"][0]
    # After it all is as it was.
    assert browser.run(WIDTH) == before
    assert browser.run(STROKE) == COLOURS["dark"][0]
    assert browser.complaints() == []


def test_text_of_others_runs_nothing(browser: Browser) -> None:
    browser.open(html_page(result_of(made_hostile())))
    assert browser.run("return window.hacked") is None
    assert browser.run("return document.querySelectorAll('.scatterlayer .trace').length") == 10
    assert browser.run("return document.images.length") == 0
    assert browser.complaints() == []


def test_the_policy_stops_what_should_come_through_all_the_same(
    browser: Browser, source: str
) -> None:
    foreign = (
        "<script>window.hacked = 1</script><img src='http://192.0.2.1/x.png'>"
        "<link rel=stylesheet href='http://192.0.2.1/x.css'>"
    )
    browser.open(source.replace("<main>", f"<main>{foreign}"))
    assert browser.run("return window.hacked") is None
    complaints = browser.complaints()
    assert len(complaints) == 3
    assert all("Content Security Policy" in complaint for complaint in complaints)


def test_a_request_would_have_been_seen(browser: Browser) -> None:
    browser.open("<img src='http://192.0.2.1.invalid/x.png'>")
    assert "http://192.0.2.1.invalid/x.png" in browser.requests()
    assert browser.complaints()


def test_the_result_can_be_saved_from_the_page(browser: Browser, source: str) -> None:
    browser.open(source)
    address: str = browser.run("return document.getElementById('save').href")
    saved = unquote(address.removeprefix("data:application/json;charset=utf-8,"))
    assert Result.model_validate_json(saved) == result_of(example())
    assert browser.run("return document.getElementById('save').offsetWidth") > 0


# The width and the colour of the first line of the first chart.
WIDTH = "return document.querySelector('#percentiles .main-svg').getBoundingClientRect().width"
STROKE = "return getComputedStyle(document.querySelector('#percentiles .js-line')).stroke"
