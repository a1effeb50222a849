"""The samples as small multiples in one PNG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.soak.verdict import JUDGED_ROLES, is_history, small_tables, table_bytes

Sample = dict[str, Any]
Of = Callable[[Sample], float | None]
MEMORY, FILES = "Memory by role, shared memory left out", "Open files by role"
LOGARITHMIC = frozenset({MEMORY, FILES})
RECORDS = "pems_sync_record"


def draw(samples: Sequence[Sample], place: Path, title: str) -> None:
    """Written to `place`; folders are made."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    minutes = [each["at"] / 60 for each in samples]
    figure, axes = pyplot.subplots(3, 3, figsize=(17, 12), sharex=True)
    for panel, (heading, unit, lines) in zip(axes.flat, _panels(samples), strict=True):
        for number, (label, of) in enumerate(lines.items()):
            values = [float("nan") if (value := of(each)) is None else value for each in samples]
            panel.plot(minutes, values, label=label, linewidth=1.3, color=f"C{number % 10}")
        panel.set_title(heading, fontsize=11, loc="left")
        panel.set_ylabel(unit)
        if heading in LOGARITHMIC:
            panel.set_yscale("log")
        else:
            panel.set_ylim(bottom=0)
        panel.grid(alpha=0.25)
        panel.legend(fontsize=7.5, loc="best", framealpha=0.6)
    for panel in axes[-1]:
        panel.set_xlabel("minutes of load")
    figure.suptitle(title, fontsize=13)
    figure.tight_layout()
    place.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(place, dpi=90)
    pyplot.close(figure)


def _panels(samples: Sequence[Sample]) -> list[tuple[str, str, dict[str, Of]]]:
    roles = [role for role in JUDGED_ROLES if role in samples[-1]["memoryMb"]]
    small = [name for name in small_tables(samples) if name != RECORDS]
    hot = sorted(small, key=lambda name: -(table_bytes(samples[-1], name) or 0))[:7]
    history = [name for name in samples[-1]["tables"] if is_history(name)]
    return [
        (MEMORY, "MB", {role: _in("memoryMb", role) for role in roles}),
        ("Connections", "open", {"PostgreSQL": _at("connections"), "Redis": _at("redisClients")}),
        (FILES, "files", {role: _in("files", role) for role in roles}),
        ("Oldest edit that is due, and depth of the queue", "s, edits", {"lag, s": _at("lagSeconds"), "depth": _at("depth")}),
        ("Commit to confirmation, last minute", "s", {"95 of 100": _at("p95Seconds")}),
        ("Edits since the start", "edits", {"accepted": _at("accepted"), "confirmed": _at("told")}),
        ("Small tables with their indexes: must stay", "kB", {_short(name): _size(name, 1e3) for name in hot}),
        ("History with its indexes: grows, as meant (records do not)", "MB",
         {_short(name): _size(name, 1e6) for name in [*history, RECORDS]}),
        ("Dead rows, share of each history table and records", "share",
         {_short(name): _dead(name) for name in [*history, RECORDS]}),
    ]  # fmt: skip


def _at(name: str) -> Of:
    return lambda sample: sample[name]


def _in(name: str, role: str) -> Of:
    return lambda sample: sample[name].get(role)


def _size(table: str, unit: float) -> Of:
    return lambda sample: (table_bytes(sample, table) or 0) / unit


def _dead(table: str) -> Of:
    def share(sample: Sample) -> float | None:
        rows = sample["tables"].get(table)
        return rows and rows["dead"] / max(1, rows["dead"] + rows["live"])

    return share


def _short(table: str) -> str:
    return table.removeprefix("pems_sync_")
