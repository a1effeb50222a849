"""A merge: for each conflicting field the value a person chose, laid over PEMS's record with the rest of the edit. Pure.

Fields of a conflicting group that nobody names keep PEMS's value; what else the planner changed stays as they changed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pems_sync import validation
from pems_sync.fields import Value, Values, with_partners
from pems_sync.validation import Violation


@dataclass(frozen=True)
class Merged:
    """`values`: the whole record as it would be. `changes`: what would be sent, empty where PEMS has it all already.
    `decided`: the value that stands, per field in conflict. `violations`: why it cannot be sent like this."""

    values: Values
    changes: Values
    decided: Values
    violations: list[Violation]


def merge(
    *,
    record_fields: Mapping[str, Value],
    base: Mapping[str, Value],
    changes: Mapping[str, Value],
    conflict_fields: Sequence[Mapping[str, Any]],
    chosen: Mapping[str, Value],
) -> Merged:
    """`base` and `changes` are those of the modification, `conflict_fields` the rows of its conflict, `chosen` canonical."""
    clashing = [str(field["name"]) for field in conflict_fields]
    settled_with_them = with_partners(set(clashing))
    kept = {name: value for name, value in changes.items() if name not in settled_with_them}
    wanted = {**kept, **chosen}
    values = {**record_fields, **wanted}
    sent = {name: value for name, value in wanted.items() if record_fields.get(name) != value}
    overlooked = [name for name in kept if name in sent and record_fields.get(name) != base.get(name)]
    open_questions = [name for name in (*clashing, *overlooked) if name in changes and name not in chosen]
    violations = [*_unanswered(open_questions), *_delete_among_others(sent), *_broken_rules(record_fields, sent)]
    return Merged(values, sent, {name: values.get(name) for name in clashing}, violations)


def _unanswered(names: Sequence[str]) -> Iterator[Violation]:
    for name in names:
        message = f"{name} was changed on both sides: say which value stands."
        yield Violation(name, "MISSING_REQUIRED_FIELD", message, frozenset({name}))


def _delete_among_others(sent: Mapping[str, Value]) -> Iterator[Violation]:
    if sent.get("isDiscontinued") is True:
        message = "isDiscontinued cannot be set by a merge: soft-delete the record by an edit of its own."
        yield Violation("isDiscontinued", "BUSINESS_RULE_VIOLATION", message, frozenset({"isDiscontinued"}))


def _broken_rules(stored: Mapping[str, Value], sent: Mapping[str, Value]) -> list[Violation]:
    return validation.split(validation.violations_of(stored, sent), sent)[0]


def read_choices(raw: Mapping[str, object], *, permissions: frozenset[str]) -> tuple[Values, list[Violation]]:
    """Canonical values of `mergedData`, and what is wrong with them, as of a draft. That a record stays discontinued may be
    said beside other fields: whether it would be written is seen only when it is merged."""
    alone = {name: value for name, value in raw.items() if name == "isDiscontinued"}
    others = {name: value for name, value in raw.items() if name not in alone}
    read = [validation.parse_changes(part, permissions=permissions) for part in (others, alone)]
    return {**read[0][0], **read[1][0]}, [*read[0][1], *read[1][1]]
