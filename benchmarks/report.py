"""The results as people and machines read them."""

import json
from dataclasses import asdict
from typing import Any

from benchmarks.measure import Results
from benchmarks.summary import Table, summary, tables
from benchmarks.targets import cautions, judged, target_table

__all__ = ["as_json", "as_markdown", "as_text"]

# What a run was made with: sections of names and values.
About = dict[str, dict[str, Any]]


def as_text(results: Results, about: About) -> str:
    """For a terminal."""
    parts = [_facts(about, results), *(_text(table) for table in tables(results))]
    if (targets := target_table(results, every=False)) is not None:
        parts.append(_text(targets))
    if left_out := _left_out(results):
        parts.append("\n".join(left_out))
    return "\n\n".join(parts)


def as_markdown(results: Results, about: About, command: str) -> str:
    """For RESULTS.md."""
    targets = target_table(results, every=True)
    parts = [
        "# Results",
        f"Written by `{command}`; not to be edited. Figures are medians over the rounds; ratios are"
        " medians of the ratio within a round, with quartiles in brackets. `CPU` is the time that"
        " the server's processes had, all threads and children.",
        *([_markdown(targets)] if targets else []),
        "### Machine, versions, settings",
        _facts(about, results, "- "),
        *(_markdown(table) for table in tables(results)),
        *_left_out(results),
    ]
    return "\n\n".join(parts) + "\n"


def as_json(results: Results, about: About) -> str:
    """For machines: all of `about`, the medians and quartiles, and every sample."""
    document = {
        "schema": 1,
        **about,
        "interrupted": results.interrupted,
        "missing": results.missing,
        "skipped": results.skipped,
        "notes": results.notes,
        "cautions": cautions(results),
        "targets": judged(results),
        "summary": summary(results),
        "samples": [asdict(sample) for sample in results.samples],
    }
    return json.dumps(document, indent=1) + "\n"


def _left_out(results: Results) -> list[str]:
    return [
        *(f"Skipped: {peer}: {why}." for peer, why in results.missing.items()),
        *(f"Skipped: {', '.join(whats)}: {why}." for why, whats in results.skipped.items()),
    ]


def _facts(about: About, results: Results, bullet: str = "") -> str:
    told = {"rounds": f", {results.reached}"} if results.interrupted else {}
    return "\n".join(
        f"{bullet}{name}: {value}{told.get(name, '')}"
        for part in about.values()
        for name, value in part.items()
    )


def _text(table: Table) -> str:
    lines = [table.headings, *table.rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(table.headings))]
    # Names to the left, numbers to the right, and whatever failed runs on.
    left = {0, 1, *([len(widths) - 1] if not table.headings[-1] else [])}
    return "\n".join(
        [
            table.title,
            *([table.note] if table.note else []),
            *(
                "  ".join(
                    cell.ljust(width) if at in left else cell.rjust(width)
                    for at, (cell, width) in enumerate(zip(line, widths, strict=True))
                ).rstrip()
                for line in lines
            ),
        ]
    )


def _markdown(table: Table) -> str:
    rule = ["---", "---", *("---:" for _ in table.headings[2:])]
    lines = [table.headings, rule, *table.rows]
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    parts = [f"### {table.title}", table.note, "\n".join(rows)]
    return "\n\n".join(filter(None, parts))
