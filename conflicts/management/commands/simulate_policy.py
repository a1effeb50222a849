"""`manage.py simulate_policy org-rio forecastEnd=max monthlyRate=pems_wins --threshold 5000`: replay a proposal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from conflicts.simulating import Simulation, simulate
from pems_sync.fields import FIELDS, FieldError
from pems_sync.models import Organization
from pems_sync.policies import Policies, Rule
from pems_sync.services.policing import InvalidPolicyError, checked_rules


class Command(BaseCommand):
    help = "Replays proposed policies over the conflicts that people resolved. Nothing is changed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", help="a slug, such as org-rio")
        parser.add_argument("rules", nargs="+", metavar="field=rule", help=f"rules: {', '.join(Rule)}")
        parser.add_argument("--threshold", help="amounts changed by more always ask; otherwise the organization's own")
        parser.add_argument("--json", action="store_true", help="the last line alone")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = _organization(options["organization"])
        threshold = _threshold(options["threshold"], organization)
        policies = Policies(_rules(options["rules"]), threshold, organization.merge_disjoint)
        result = simulate(organization, policies)
        if not options["json"]:
            self._draw(result)
        self.stdout.write(json.dumps(result.as_wire(money=True)))

    def _draw(self, result: Simulation) -> None:
        table = Table("PFA record", "field", "a person chose", "the policy would choose", title="Settled differently")
        for item in result.items:
            table.add_row(item.pfa_id, item.field, _shown(item.person), _shown(item.policy))
        console = Console(highlight=False, markup=False, width=120)
        with console.capture() as drawn:
            console.print(table)
        if result.items:
            self.stdout.write(drawn.get())
        self.stdout.write(
            f"{result.conflicts} conflicts were decided by people. The proposal would have settled {result.settled} "
            f"of them, {result.differently} differently."
        )


def _organization(slug: str) -> Organization:
    found = Organization.objects.filter(slug=slug).first()
    if found is None:
        known = ", ".join(Organization.objects.order_by("slug").values_list("slug", flat=True)) or "none yet"
        raise CommandError(f"There is no organization {slug}. Known: {known}.", returncode=2)
    return found


def _rules(words: Sequence[str]) -> dict[str, Rule]:
    rules: dict[str, str] = {}
    for word in words:
        name, sign, rule = word.partition("=")
        if not sign or name in rules:
            raise CommandError(f"'{word}' is not of the form field=rule, each field once.", returncode=2)
        rules[name] = rule
    try:
        return checked_rules(rules)
    except InvalidPolicyError as error:
        raise CommandError(error.message, returncode=2) from error


def _threshold(text: str | None, organization: Organization) -> Decimal | None:
    if text is None:
        return organization.money_threshold
    try:
        amount = Decimal(str(FIELDS["monthlyRate"].parse(text) or "-1"))
    except FieldError as error:
        raise CommandError(f"--threshold {error.message}.", returncode=2) from error
    if amount < 0:
        raise CommandError("--threshold must be an amount of 0 or more.", returncode=2)
    return amount


def _shown(value: object) -> str:
    return "–" if value is None else str(value)
