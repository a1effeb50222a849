"""The rules of API.md on the merged record: the stored values with the changes laid over them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from pems_sync.fields import FIELDS, FieldError, Kind, Value, Values, with_partners


@dataclass(frozen=True)
class Violation:
    """A broken rule. `touches`: the fields it speaks of; `field` is the one shown to the planner."""

    field: str
    code: str
    message: str
    touches: frozenset[str]

    def as_wire(self) -> dict[str, str]:
        return {"field": self.field, "code": self.code, "message": self.message}


def parse_changes(raw: Mapping[str, object], *, permissions: frozenset[str]) -> tuple[Values, list[Violation]]:
    """Canonical changes and what is wrong with them: unknown, not editable, or unusable values."""
    changes: Values = {}
    violations: list[Violation] = []
    for name, value in raw.items():
        try:
            changes[name] = _parse_one(name, value, permissions)
        except FieldError as error:
            violations.append(Violation(name[:100], error.code, f"{name[:100]} {error.message}.", frozenset({name})))
    if changes.get("isDiscontinued") is True and len(raw) > 1:
        violations.append(
            _broken(
                "BUSINESS_RULE_VIOLATION",
                "isDiscontinued",
                "must be sent alone: a soft delete cannot be combined with other changes",
            )
        )
    return changes, violations


def _parse_one(name: str, raw: object, permissions: frozenset[str]) -> Value:
    field = FIELDS.get(name)
    if field is None:
        raise FieldError("UNKNOWN_FIELD", "is not a field of a PFA record")
    if field.permission is None or field.permission not in permissions:
        raise FieldError("FIELD_NOT_EDITABLE", "may not be edited by you")
    value = field.parse(raw)
    if value is None and field.kind is Kind.FLAG:
        raise FieldError("INVALID_TYPE", "must be true or false")
    return value


def violations_of(stored: Mapping[str, Value], changes: Mapping[str, Value]) -> list[Violation]:
    """Every broken rule of the merged record, whether or not the changes caused it."""
    merged = {**stored, **changes}
    return [violation for rule in _RULES for violation in rule(stored, merged)]


def split(violations: list[Violation], changes: Mapping[str, Value]) -> tuple[list[Violation], list[Violation]]:
    """(errors, warnings): only what touches a changed field or its group is refused (PROTOCOL, Records and inbound)."""
    touched = with_partners(set(changes))
    errors = [violation for violation in violations if violation.touches & touched]
    return errors, [violation for violation in violations if not violation.touches & touched]


def _broken(code: str, field: str, message: str, *others: str) -> Violation:
    return Violation(field, code, f"{field} {message}.", frozenset({field, *others}))


def _dates_in_order(_: Mapping[str, Value], merged: Mapping[str, Value]) -> Iterator[Violation]:
    for kind in ("forecast", "original", "actual"):
        start, end = merged.get(f"{kind}Start"), merged.get(f"{kind}End")
        if isinstance(start, str) and isinstance(end, str) and end < start:
            yield _broken(
                "INVALID_DATE_ORDER", f"{kind}End", f"({end}) is before {kind}Start ({start})", f"{kind}Start"
            )


def _amounts(_: Mapping[str, Value], merged: Mapping[str, Value]) -> Iterator[Violation]:
    for name in ("monthlyRate", "purchasePrice"):
        value = merged.get(name)
        if isinstance(value, str) and Decimal(value) < 0:
            yield _broken("INVALID_RANGE", name, "must not be negative")


def _terms(_: Mapping[str, Value], merged: Mapping[str, Value]) -> Iterator[Violation]:
    needed = {"Rental": "monthlyRate", "Purchase": "purchasePrice"}.get(str(merged.get("source")))
    if needed and merged.get(needed) is None:
        yield _broken("MISSING_REQUIRED_FIELD", needed, f"is needed when source is {merged['source']}", "source")


def _actualized(stored: Mapping[str, Value], merged: Mapping[str, Value]) -> Iterator[Violation]:
    if not stored.get("isActualized"):
        return
    before, after = stored.get("actualStart"), merged.get("actualStart")
    if isinstance(before, str) and isinstance(after, str) and after > before:
        yield _broken("BUSINESS_RULE_VIOLATION", "actualStart", "of an actualized record may not move later")
    if merged.get("source") != stored.get("source"):
        yield _broken("BUSINESS_RULE_VIOLATION", "source", "of an actualized record is fixed")
    if merged.get("isDiscontinued") and not stored.get("isDiscontinued"):
        yield _broken(
            "BUSINESS_RULE_VIOLATION", "isDiscontinued", "cannot be set: an actualized record may not be deleted"
        )


def _discontinued(stored: Mapping[str, Value], merged: Mapping[str, Value]) -> Iterator[Violation]:
    if stored.get("isDiscontinued") and not merged.get("isDiscontinued"):
        yield _broken(
            "BUSINESS_RULE_VIOLATION",
            "isDiscontinued",
            "cannot be taken back: a discontinued record may not be reactivated",
        )


_Rule = Callable[[Mapping[str, Value], Mapping[str, Value]], Iterator[Violation]]
_RULES: tuple[_Rule, ...] = (_dates_in_order, _amounts, _terms, _actualized, _discontinued)
