"""What goes wrong when: from the seed and the minutes alone."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

WARM_UP, LAST_UNDO = 3.0, 2.0
"""Seconds at the beginning without faults, and before the end by which everything is undone."""
SECONDS_PER_ANSWER, SECONDS_PER_BLOW = 1.3, 5.0
"""About one scripted answer of PEMS, and about one blow at a process, in so many seconds."""
WRITE_WORKERS, WEB_PROCESSES = 3, 2
WRITERS = tuple(f"worker-write-{number}" for number in range(1, WRITE_WORKERS + 1))
SHIFTED = WRITERS[-1]
WEBS = ("web", *(f"web-{number}" for number in range(2, WEB_PROCESSES + 1)))

WRITES, ANY = ("PUT", "PUT", "BATCH"), ("PUT", "BATCH", "ANY", "ANY")
ANSWERS: dict[str, tuple[str, ...]] = {
    **{f"status_{status}": ANY for status in (401, 403, "404_html", 423, 429, 500, 502, 503, 504)},
    **{f"status_{status}": WRITES for status in (400, 409, 422)},
    **dict.fromkeys(("reset_before", "slow", "garbage"), ANY),
    **dict.fromkeys(("lost_reply", "truncated", "late_apply"), WRITES),
    **dict.fromkeys(("item_400", "item_404", "item_409", "item_422", "item_423", "item_503"), WRITES),
    **dict.fromkeys(("version_jump", "adjust", "no_record"), WRITES),
    **dict.fromkeys(("batch_partial", "batch_missing_result"), ("BATCH",)),
}
"""Kinds of the sandbox that strike single requests, and the operations they are aimed at."""
TWICE_AS_OFTEN = ("lost_reply", "truncated", "late_apply", "slow", "reset_before", "status_502", "batch_partial")
BLOWS: dict[str, tuple[str, ...]] = {
    "kill_writer": WRITERS,
    "kill_control": ("worker-control",),
    "kill_beat": ("beat",),
    "kill_web": WEBS,
    "kill_pems": ("sandbox",),
    "sigterm_writer": WRITERS,
    "zombie": (*WRITERS, *WRITERS, "worker-control"),
    "redis_flush": ("redis",),
    "redis_restart": ("redis",),
    "postgres_restart": ("postgres",),
    "postgres_kill": ("postgres",),
    "outage": ("cut", "503"),
    "idempotency_ignored": ("pems",),
    "batch_absent": ("pems",),
}
"""Kinds that strike processes, services, or all of PEMS for a time, and what they may hit."""
LASTING = {"zombie": (8.5, 11.0), "idempotency_ignored": (8.0, 15.0), "batch_absent": (4.0, 8.0)}
"""Seconds until they are undone; a zombie sleeps longer than any lease of the settings in use."""
OUTAGE_SECONDS, OUTAGE_OF_SHORT_RUNS, LONG_RUN_SECONDS = 30.0, 8.0, 120.0
CLOCK_SHIFT_SECONDS = 3600


@dataclass(frozen=True, order=True)
class Fault:
    """`at` seconds after the start; undone `seconds` later where it lasts. `detail`: what the kind needs more."""

    at: float
    kind: str
    target: str
    seconds: float = 0.0
    times: int = 1
    detail: float = 0.0

    @property
    def until(self) -> float:
        return self.at + self.seconds


def schedule(seed: int, minutes: float) -> list[Fault]:
    """In order of time. The clock of one worker is off from the first second to the last."""
    random, total = Random(f"schedule {seed}"), minutes * 60.0
    shift = random.choice((-CLOCK_SHIFT_SECONDS, CLOCK_SHIFT_SECONDS))
    clock = Fault(0.0, "clock_shift", SHIFTED, detail=shift)
    return sorted([clock, *_answers(random, total), *_blows(random, total)])


def _answers(random: Random, total: float) -> list[Fault]:
    count = max(8, int((total - WARM_UP) / SECONDS_PER_ANSWER))
    kinds = _in_turn(random, [*ANSWERS, *TWICE_AS_OFTEN], count)
    times = sorted(random.uniform(WARM_UP, total - LAST_UNDO) for _ in kinds)
    return [_answer(random, at, kind) for at, kind in zip(times, kinds, strict=True)]


def _answer(random: Random, at: float, kind: str) -> Fault:
    target, detail = random.choice(ANSWERS[kind]), round(random.uniform(0.5, 6.0), 2)
    return Fault(round(at, 2), kind, target, times=random.choice((1, 1, 2, 3)), detail=detail)


def _blows(random: Random, total: float) -> list[Fault]:
    """Evenly spread, so that there is life between two of them, and shifted a little."""
    first, last = WARM_UP, total - LAST_UNDO
    count = max(4, int((last - first) / SECONDS_PER_BLOW))
    step = (last - first) / count
    kinds = _in_turn(random, list(BLOWS), count)
    placed = [(first + step * (number + random.uniform(0.0, 0.8)), kind) for number, kind in enumerate(kinds)]
    return [_blow(random, at, kind, last, total) for at, kind in placed]


def _blow(random: Random, at: float, kind: str, last: float, total: float) -> Fault:
    seconds = random.uniform(*LASTING[kind]) if kind in LASTING else 0.0
    if kind == "outage":
        seconds = OUTAGE_SECONDS if total >= LONG_RUN_SECONDS else OUTAGE_OF_SHORT_RUNS
    at = max(0.0, min(at, last - seconds))
    return Fault(round(at, 2), kind, random.choice(BLOWS[kind]), round(seconds, 2))


def _in_turn(random: Random, kinds: list[str], count: int) -> list[str]:
    """Every kind once in a random order, then again in another."""
    chosen: list[str] = []
    while len(chosen) < count:
        chosen += random.sample(kinds, len(kinds))
    return chosen[:count]
