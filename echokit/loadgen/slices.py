"""Slices of several runs as those of one."""

from collections.abc import Sequence

from echokit.loadgen.account import MOST_SLICES, join_figures
from echokit.loadgen.measured import Slice

__all__ = ["merge_slices"]


def merge_slices(parts: Sequence[tuple[float, list[Slice]]]) -> list[Slice]:
    """The slices of the first, each with those of the others whose middle lies in it."""
    (began, first), *others = parts
    first = [each.model_copy(update={"start_s": each.start_s + began}) for each in first]
    gathered = [[slice_] for slice_ in first]
    ends = [s.start_s for s in first[1:]] + [
        first[-1].start_s + first[-1].duration_s if first else 0
    ]
    alone: list[list[Slice]] = []
    for offset, slices in others:
        homes: dict[int, list[Slice]] = {}
        for slice_ in slices:
            moved = slice_.model_copy(update={"start_s": slice_.start_s + offset})
            middle = moved.start_s + moved.duration_s / 2
            home = next((n for n, end in enumerate(ends) if middle < end), None)
            if home is None or middle < first[home].start_s:
                alone.append([moved])
            else:
                homes.setdefault(home, []).append(moved)
        for home, found in homes.items():
            # Those of one run came one after the other: their rate is that of all their time.
            gathered[home].append(_joined(found, requests_per_s=None))
    rows = [
        _joined(group, requests_per_s=sum(s.requests_per_s for s in group))
        for group in [*gathered, *alone]
    ]
    rows.sort(key=lambda row: row.start_s)
    while len(rows) > MOST_SLICES:
        rows = [_joined(rows[n : n + 2], requests_per_s=None) for n in range(0, len(rows), 2)]
    return rows


def _joined(slices: list[Slice], requests_per_s: float | None) -> Slice:
    if len(slices) == 1:
        return slices[0]
    # By their rates, as those of an open loop are not by all of their time.
    well = sum(slice_.requests_per_s * slice_.duration_s for slice_ in slices)
    seconds = sum(slice_.duration_s for slice_ in slices)
    side_by_side = requests_per_s is not None
    return Slice(
        start_s=min(slice_.start_s for slice_ in slices),
        duration_s=max(s.duration_s for s in slices) if side_by_side else seconds,
        requests=sum(slice_.requests for slice_ in slices),
        ok=sum(slice_.ok for slice_ in slices),
        requests_per_s=requests_per_s if requests_per_s is not None else well / (seconds or 1.0),
        response=join_figures([slice_.response for slice_ in slices]),
    )
