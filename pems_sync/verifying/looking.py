"""What a check is, and how one is carried out: statements that return a sentence for each thing that is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from django.db import connection

MOST_TOLD = 20
"""Findings per check that are told; that there are more is told as well."""


@dataclass(frozen=True)
class Scope:
    """`organization_ids`: those that are looked at. `whole`: all of them, and the journal entries that belong to none."""

    organization_ids: Sequence[int]
    whole: bool


Look = Callable[[Scope], Iterator[str]]


@dataclass(frozen=True)
class Check:
    """`statements`: SQL with one column of text, a row for each finding; `%(organizations)s` is an array of ids. `looks`:
    what SQL cannot say. `remedy`: what to do about a finding."""

    id: str
    title: str
    remedy: str
    statements: tuple[str, ...] = ()
    looks: tuple[Look, ...] = ()


@dataclass(frozen=True)
class Checked:
    """`found`: at most MOST_TOLD sentences, and one more where there are more."""

    id: str
    title: str
    remedy: str
    found: list[str] = field(default_factory=list)
    milliseconds: int = 0

    @property
    def ok(self) -> bool:
        return not self.found


def carry_out(check: Check, scope: Scope) -> Checked:
    begun = time.monotonic()
    found = told(_everything(check, scope))
    return Checked(check.id, check.title, check.remedy, found, round((time.monotonic() - begun) * 1000))


def told(findings: Iterator[str]) -> list[str]:
    """The first findings; the rest is only said to be there."""
    found = list(islice(findings, MOST_TOLD + 1))
    return found if len(found) <= MOST_TOLD else [*found[:MOST_TOLD], "… and more"]


def _everything(check: Check, scope: Scope) -> Iterator[str]:
    for statement in check.statements:
        yield from _rows(statement, scope)
    for look in check.looks:
        yield from look(scope)


def _rows(statement: str, scope: Scope) -> Iterator[str]:
    limited = f"SELECT * FROM ({statement}) AS looked LIMIT {MOST_TOLD + 1}"  # noqa: S608  (statements of this package)
    with connection.cursor() as cursor:
        cursor.execute(limited, {"organizations": list(scope.organization_ids)})
        yield from (row[0] for row in cursor.fetchall())
