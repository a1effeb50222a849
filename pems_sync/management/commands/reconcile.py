"""`manage.py reconcile org-rio`: is every record here as PEMS has it?"""

from __future__ import annotations

import json
import sys
from io import StringIO
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from pems_sync.client.pace import PaceUnavailableError
from pems_sync.client.secrets import SecretsUnavailableError
from pems_sync.differences import Report
from pems_sync.errors import DomainError
from pems_sync.models import Organization
from pems_sync.reconciling import MOST_TOLD, reconcile


class Command(BaseCommand):
    help = (
        "Compares every record of an organization with PEMS and names each difference. Exits with 0 when nothing is left "
        "unexplained, with 1 when something is, with 2 when it was called wrongly. The last line is JSON."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", help="slug, such as org-rio")
        parser.add_argument(
            "--repair", action="store_true", help="store what PEMS shows, give up what it does not know"
        )
        parser.add_argument("--json", action="store_true", help="nothing but the JSON line")

    def handle(self, *args: Any, **options: Any) -> None:
        slug: str = options["organization"]
        organization = Organization.objects.select_related("connection").filter(slug=slug).first()
        if organization is None:
            known = ", ".join(Organization.objects.order_by("slug").values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"There is no organization {slug}. Known: {known}.", returncode=2)
        try:
            report = reconcile(organization, repair=options["repair"])
        except (DomainError, PaceUnavailableError, SecretsUnavailableError) as error:
            raise CommandError(str(error)) from error
        if not options["json"]:
            self.stdout.write(_table(report))
        self.stdout.write(json.dumps(_figures(slug, report)))
        if report.unexplained:
            sys.exit(1)


def _table(report: Report) -> str:
    table = Table("PFA id", "kind", "detail", "repaired")
    for each in report.differences[:MOST_TOLD]:
        table.add_row(each.pfa_id, each.kind, each.detail, "yes" if each.repaired else "")
    drawn = StringIO()
    console = Console(file=drawn, width=120, highlight=False, markup=False)
    if report.differences:
        console.print(table)
    more = len(report.differences) - MOST_TOLD
    console.print(f"… and {more} more" if more > 0 else f"{report.compared} records compared")
    return drawn.getvalue().rstrip()


def _figures(slug: str, report: Report) -> dict[str, Any]:
    return {
        "organizationId": slug,
        "compared": report.compared,
        "differences": len(report.unexplained),
        "repaired": sum(each.repaired for each in report.differences),
        "byKind": report.by_kind(),
    }
