"""An organization's policies: read, changed by a member with `manage`, and applied to an edit that clashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AbstractBaseUser

from pems_sync import events
from pems_sync.drift import Converged, base_for, compare
from pems_sync.errors import DomainError
from pems_sync.fields import Values
from pems_sync.journal import deadlock_retried, unit_of_work
from pems_sync.models import Membership, Modification, Organization, Record
from pems_sync.models.policy import FieldPolicy
from pems_sync.policies import RULED, Policies, Rule, given_up, rules_for, settle
from pems_sync.records import values_at
from pems_sync.services.moves import Moves
from pems_sync.services.transitions import confirm, requeue, subject, withdraw
from pems_sync.states import IN_FLIGHT


class InvalidPolicyError(DomainError):
    """That rule does not work for this field."""

    code, status = "INVALID_POLICY", 400


@dataclass(frozen=True)
class Standing:
    """All that an organization has decided about what the machine may settle."""

    policies: Policies
    second_approval: bool

    def as_wire(self) -> dict[str, Any]:
        threshold = self.policies.money_threshold
        return {
            "rules": [{"field": name, "rule": rule.value} for name, rule in self.policies.rules.items()],
            "moneyThreshold": None if threshold is None else f"{threshold:.2f}",
            "mergeDisjoint": self.policies.merge_disjoint,
            "secondApproval": self.second_approval,
        }


def policies_of(organization: Organization) -> Policies:
    """One query."""
    found = dict(FieldPolicy.objects.filter(organization=organization).values_list("field", "rule"))
    rules = {name: Rule(found[name]) for name in RULED if found.get(name, Rule.ASK) != Rule.ASK}
    return Policies(rules, organization.money_threshold, organization.merge_disjoint)


def standing_of(organization: Organization) -> Standing:
    return Standing(policies_of(organization), organization.second_approval)


def checked_rules(wanted: Mapping[str, str]) -> dict[str, Rule]:
    """Rules that ask are those that are absent. Raises InvalidPolicyError, naming the field."""
    rules: dict[str, Rule] = {}
    for name, word in wanted.items():
        if name not in RULED:
            raise InvalidPolicyError(
                f"'{name[:64]}' is not a field that can have a policy.", details={"field": name[:64]}
            )
        if word not in rules_for(name):
            words = ", ".join(rules_for(name))
            message = f"'{word[:20]}' does not work for {name}: choose one of {words}."
            raise InvalidPolicyError(message, details={"field": name})
        rules[name] = Rule(word)
    return {name: rules[name] for name in RULED if rules.get(name, Rule.ASK) is not Rule.ASK}


@deadlock_retried
def set_policies(*, membership: Membership, policies: Policies, second_approval: bool) -> Standing:
    """What stands from here on; edits that clash are settled by it, conflicts that are open wait for their person.
    The caller has checked the rules and that the member may `manage`."""
    with unit_of_work() as work:
        organization = Organization.objects.select_for_update(of=("self",), no_key=True).get(
            pk=membership.organization_id
        )
        before = standing_of(organization).as_wire()
        _write(organization, policies, second_approval, membership.user)
        standing = standing_of(organization)
        if standing.as_wire() != before:
            work.record(
                events.PoliciesChanged(
                    organization_id=organization.pk, actor=membership.user.username,
                    before=before, after=standing.as_wire(),
                )
            )  # fmt: skip
    return standing


def _write(organization: Organization, policies: Policies, second_approval: bool, user: AbstractBaseUser) -> None:
    organization.money_threshold, organization.merge_disjoint = policies.money_threshold, policies.merge_disjoint
    organization.second_approval = second_approval
    organization.save(update_fields=["money_threshold", "merge_disjoint", "second_approval"])
    known = {row.field: row for row in FieldPolicy.objects.filter(organization=organization)}
    for name in known.keys() - policies.rules.keys():
        known[name].delete()
    for name, rule in policies.rules.items():
        row = known.get(name) or FieldPolicy(organization=organization, field=name, rule="")
        if row.rule != rule:
            row.rule, row.changed_by_id = rule.value, user.pk
            row.save()


def set_policy(*, membership: Membership, field: str, rule: str) -> Standing:
    """One rule; the others stay. Raises InvalidPolicyError."""
    standing = standing_of(Organization.objects.get(pk=membership.organization_id))
    rules = checked_rules({**standing.policies.rules, field: rule})
    policies = Policies(rules, standing.policies.money_threshold, standing.policies.merge_disjoint)
    return set_policies(membership=membership, policies=policies, second_approval=standing.second_approval)


def settle_by_policy(moves: Moves, row: Modification, record: Record, clashing: tuple[str, ...]) -> bool:
    """Let the organization's policies decide, where they may. Whether they did: the row goes on with what is left of it,
    at the stored version, or is withdrawn where nothing is. A row that may still land is never touched."""
    policies = _policies(moves, row.organization)
    if row.exposed or not policies.rules:
        return False
    seen = values_at(record, row.base_version) or {}  # whole, for what it was besides: actualized, say
    stands = settle(
        policies, base=seen | row.base, changes=row.changes, theirs=record.fields,
        clashing=clashing, ours_at=row.committed_at, theirs_at=record.changed_at,
    )  # fmt: skip
    if stands is None:
        return False
    lost = given_up(stands, row.changes, record.fields)
    _tell(moves, row, record, stands, lost)
    if len(lost) == len(row.changes):
        _give_way(moves, row, lost)
    else:
        _go_on_with(moves, row, record, stands, lost)
    return True


def _policies(moves: Moves, organization: Organization) -> Policies:
    if organization.pk not in moves.policies:
        moves.policies[organization.pk] = policies_of(organization)
    return moves.policies[organization.pk]


def _tell(moves: Moves, row: Modification, record: Record, stands: Values, lost: list[str]) -> None:
    ours = {**row.base, **row.changes}
    rules = _policies(moves, row.organization).rules
    moves.work.record(
        events.ModificationMergedByPolicy(
            **subject(row, "policy"),
            before={name: ours.get(name) for name in stands},
            after={"values": stands, "givenUp": lost, "expectedVersion": record.version},
            reason=", ".join(f"{name}: {rules[name]}" for name in stands if name in rules),
        )
    )


def _go_on_with(moves: Moves, row: Modification, record: Record, stands: Values, lost: list[str]) -> None:
    """A decision was taken against PEMS's present values: where it was, they are the base from here on. What is left
    may be what both sides wanted anyway."""
    row.changes = {name: value for name, value in row.changes.items() if name not in lost}
    decided = {name: record.fields.get(name) for name in base_for(stands, record.fields) if name != "isDiscontinued"}
    needed = base_for(row.changes, record.fields)
    row.base = {name: value for name, value in (row.base | decided).items() if name in needed}
    row.expected_version = record.version
    moves.keep(row)
    if compare(base=row.base, changes=row.changes, theirs=record.fields, delete=False) == Converged():
        confirm(moves, row, version=record.version, actor="policy", how="converged")


def _give_way(moves: Moves, row: Modification, lost: list[str]) -> None:
    """PEMS's values stand in all that was wanted: nothing is left to write."""
    if row.state in IN_FLIGHT:
        requeue(moves, row, actor="policy", why="PEMS had moved; the policies let its values stand")
        moves.save_between(row)
    withdraw(moves, row, actor="policy", reason=f"PEMS's values stand by policy: {', '.join(lost)}")
