"""What the machine may settle by itself where both sides changed the same: an organization's rules, and their limits.

Pure. A policy never mixes two sides within a unit (K4), and never touches what needs a person: a large amount, an
actualized record, a merged record that would break a rule. In doubt it asks. Called for conflicts of the kind
`edit_edit` alone: everything else always asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import assert_never

from pems_sync import validation
from pems_sync.drift import Side
from pems_sync.fields import FIELDS, MONEY_FIELDS, UNITS, Kind, Value, Values, unit_of


class Rule(StrEnum):
    """Whose value of a field stands. The words of `models.policy.Rule`, which a test holds to these."""

    ASK = "ask"
    PEMS_WINS = "pems_wins"
    LOCAL_WINS = "local_wins"
    NEWEST = "newest"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True)
class Policies:
    """Of one organization. A field without a rule asks; `money_threshold` None: amounts of any size are settled."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    money_threshold: Decimal | None = None
    merge_disjoint: bool = True


def rules_for(name: str) -> tuple[Rule, ...]:
    """The rules that make sense for a field: only dates and amounts have a larger and a smaller value."""
    ordered = FIELDS[name].kind in (Kind.DATE, Kind.MONEY)
    return tuple(Rule) if ordered else tuple(rule for rule in Rule if rule not in (Rule.MAX, Rule.MIN))


RULED = tuple(name for name, each in FIELDS.items() if each.permission and name != "isDiscontinued")
"""Fields that may have a rule: what people edit. Discontinuing is not among them: it always asks (K7)."""


def settle(
    policies: Policies,
    *,
    base: Mapping[str, Value],
    changes: Mapping[str, Value],
    theirs: Mapping[str, Value],
    clashing: Iterable[str],
    ours_at: datetime | None,
    theirs_at: datetime | None,
) -> Values | None:
    """The values that stand for each clashing field and what we changed beside it in its group; None: ask a person.
    `ours_at`: when the edit was committed, `theirs_at`: when PEMS changed the record."""
    case = _Case(policies, base, changes, theirs, ours_at, theirs_at)
    if not policies.rules or case.actualized():
        return None
    stands: Values = {}
    for unit, names in _by_unit(clashing, changes).items():
        side = case.winner(unit, names)
        if side is None or case.moves_much_money(names):
            return None
        stands |= {name: (case.ours(name) if side is Side.OURS else theirs.get(name)) for name in names}
    return stands if stands and case.is_valid_with(stands) else None


def given_up(stands: Mapping[str, Value], changes: Mapping[str, Value], theirs: Mapping[str, Value]) -> list[str]:
    """The fields of ours that give way: those of each settled unit in which only PEMS's values stand."""
    units: dict[str, list[str]] = {}
    for name in stands:
        units.setdefault(unit_of(name), []).append(name)
    lost = [names for names in units.values() if all(stands[name] == theirs.get(name) for name in names)]
    return [name for names in lost for name in names if name in changes]


def _by_unit(clashing: Iterable[str], changes: Mapping[str, Value]) -> dict[str, list[str]]:
    """The clashing fields with whatever we changed in the same group: they are settled together or not at all."""
    named = set(clashing)
    units = {unit_of(name): UNITS[unit_of(name)] for name in sorted(named)}
    return {unit: [name for name in names if name in named or name in changes] for unit, names in units.items()}


@dataclass(frozen=True)
class _Case:
    """One edit against PEMS."""

    policies: Policies
    base: Mapping[str, Value]
    changes: Mapping[str, Value]
    theirs: Mapping[str, Value]
    ours_at: datetime | None
    theirs_at: datetime | None

    def ours(self, name: str) -> Value:
        return self.changes.get(name, self.base.get(name))

    def actualized(self) -> bool:
        return bool(self.base.get("isActualized") or self.theirs.get("isActualized"))

    def winner(self, unit: str, names: Iterable[str]) -> Side | None:
        """The one side that every differing field of the unit goes to; None where they part, or one of them asks."""
        differing = [name for name in names if self.ours(name) != self.theirs.get(name)]
        sides = {self._side(name) for name in differing} or {Side.THEIRS}  # agreed: nothing is left to write
        side = sides.pop() if len(sides) == 1 else None
        return None if side is Side.OURS and self._partner_moved(unit) else side

    def _side(self, name: str) -> Side | None:
        rule = self.policies.rules.get(name, Rule.ASK)
        match rule:
            case Rule.PEMS_WINS:
                return Side.THEIRS
            case Rule.LOCAL_WINS:
                return Side.OURS
            case Rule.NEWEST:
                return self._newest()
            case Rule.MAX | Rule.MIN:
                return self._outermost(name, largest=rule is Rule.MAX)
            case Rule.ASK:
                return None
            case _:
                assert_never(rule)

    def _newest(self) -> Side | None:
        if self.ours_at is None or self.theirs_at is None or self.ours_at == self.theirs_at:
            return None
        return Side.OURS if self.ours_at > self.theirs_at else Side.THEIRS

    def _outermost(self, name: str, *, largest: bool) -> Side | None:
        ours, theirs = _ordered(name, self.ours(name)), _ordered(name, self.theirs.get(name))
        if ours is None or theirs is None:
            return None
        return Side.OURS if (ours > theirs) is largest else Side.THEIRS

    def _partner_moved(self, unit: str) -> bool:
        """PEMS changed a field of the group that we did not: our values beside it would split the group (K4)."""
        return any(
            name not in self.changes and self.theirs.get(name) != self.base.get(name, self.theirs.get(name))
            for name in UNITS[unit]
        )

    def moves_much_money(self, names: Iterable[str]) -> bool:
        """Between the base and either side, or between the sides. An unknown amount may be any."""
        limit = self.policies.money_threshold
        if limit is None:
            return False
        for name in MONEY_FIELDS.intersection(names):
            values = {self.base.get(name), self.ours(name), self.theirs.get(name)}
            amounts = [Decimal(str(value)) for value in values if value is not None]
            if len(values) > 1 and (None in values or max(amounts) - min(amounts) > limit):
                return True
        return False

    def is_valid_with(self, stands: Mapping[str, Value]) -> bool:
        """No rule is broken that touches what is left of our changes, or what was settled."""
        lost = set(given_up(stands, self.changes, self.theirs))
        left = {name: value for name, value in self.changes.items() if name not in lost}
        return not validation.split(validation.violations_of(self.theirs, left), {**left, **stands})[0]


def _ordered(name: str, value: Value) -> Decimal | None:
    """As it can be compared with another value of the field; None where that means nothing."""
    if not isinstance(value, str):
        return None
    match FIELDS[name].kind:
        case Kind.MONEY:
            return Decimal(value)
        case Kind.DATE:
            return Decimal(date.fromisoformat(value).toordinal())
        case _:
            return None
