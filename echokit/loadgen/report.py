"""The page of a run: one HTML file that opens offline, and needs nothing but itself.

The page is our own HTML, CSS and script (`report.html`, `report.css` and `report.js` beside this
file), with plotly.js, the data of the charts and the whole result in it. Text that others chose
(labels, host names, a server's words) is escaped by the template, and a Content-Security-Policy
lets nothing be loaded, and no script run but those two, which it names by their hashes.
"""

import base64
import hashlib
from importlib.resources import files
from typing import Any

from echokit.errors import ConfigError
from echokit.loadgen.measured import FAMILIES, FAMILY_TITLES, FamilyResult
from echokit.loadgen.result import Result
from echokit.loadgen.shown import response_since
from echokit.observe.escape import printable

try:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    # These want hdrhistogram, which the extra brings, too.
    from echokit.loadgen import report_tables, report_words
    from echokit.loadgen.curves import percentile_curve, spread
except ImportError as error:
    raise ConfigError(
        f"an HTML report needs plotly and jinja2, and {error.name} is missing: install echokit from"
        " its checkout with the extra 'report', as in pip install -e '.[report]'"
    ) from error

__all__ = ["html_page"]


def html_page(result: Result) -> str:
    """The page of `result`: about 5 MB of text, nearly all of it plotly.js.

    Every histogram of it must be one that can be decoded, as `check_histograms` makes sure.
    """
    # Every text that the template is given comes out escaped, and unprintable characters too.
    template = Environment(
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [get_plotlyjs(), _file("report.js")]
    # In this order, which their ratios count on, whatever order the document has.
    families = {name: result.families[name] for name in FAMILIES if name in result.families}
    return template.from_string(_file("report.html")).render(
        result=result,
        families=families,
        style=_file("report.css"),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
        data={FAMILY_TITLES[name]: _charted(family) for name, family in families.items()},
        document=result.model_dump(mode="json"),
        answered=any(family.response.count for family in families.values()),
        since=response_since(families, result.settings),
        family_titles=FAMILY_TITLES,
        tables=report_tables,
        words=report_words,
    )


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _file(name: str) -> str:
    return files("echokit.loadgen").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """How a Content-Security-Policy names a script (CSP level 3, section 2.3.1)."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _charted(family: FamilyResult) -> dict[str, Any]:
    """The points of the charts, latencies in microseconds."""
    return {
        "percentiles": {
            span: percentile_curve(figure) for span, figure in report_tables.spans(family)
        },
        "spread": spread(family.response),
        "slices": [
            (slice_.start_s, slice_.duration_s, slice_.requests_per_s, slice_.response.p99_us)
            for slice_ in family.slices
        ],
    }
