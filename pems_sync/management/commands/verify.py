"""`manage.py verify --all`: is everything as it must be?"""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from pems_sync import conserving
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.client.secrets import SecretsUnavailableError
from pems_sync.errors import DomainError
from pems_sync.models import Organization
from pems_sync.verifying import Checked, compare_with_pems, verify


class Command(BaseCommand):
    help = (
        "Checks what must always be true (I1 to I10) against the database, on one snapshot that it only reads: safe on a "
        "live system. Exits with 0 when nothing was found, with 1 when something was, with 2 when it was called wrongly, or "
        "the database or PEMS could not be asked."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--all", action="store_true", help="every organization, and what belongs to none")
        parser.add_argument("--organization", metavar="SLUG", help="one organization, such as org-rio")
        parser.add_argument(
            "--pems", action="store_true", help="compare every record with PEMS as well, in the pace (I13)"
        )
        parser.add_argument("--recount", action="store_true", help="first count accepted edits anew, from the journal")
        parser.add_argument("--json", action="store_true", help="nothing but one line of JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            checks = self._look(options)
        except DatabaseError as error:
            told = str(error).strip().splitlines()[:1]
            raise CommandError(f"The database could not be asked: {''.join(told)}", returncode=2) from error
        except (DomainError, PaceUnavailableError, SecretsUnavailableError) as error:
            raise CommandError(f"PEMS could not be asked: {error}", returncode=2) from error
        ok = all(check.ok for check in checks)
        self.stdout.write(_as_json(checks, ok) if options["json"] else _as_text(checks, ok))
        if not ok:
            sys.exit(1)

    def _look(self, options: dict[str, Any]) -> list[Checked]:
        organizations = self._chosen(whole=options["all"], slug=options["organization"])
        if options["recount"]:
            conserving.recount([each.pk for each in organizations])
        checks = verify(organizations, whole=options["all"])
        return [*checks, compare_with_pems(organizations)] if options["pems"] else checks

    def _chosen(self, *, whole: bool, slug: str | None) -> list[Organization]:
        known = Organization.objects.select_related("connection").order_by("slug")
        if whole == bool(slug):
            usage = self.create_parser("manage.py", "verify").format_usage().strip()
            raise CommandError(f"Give either --all or --organization SLUG.\n{usage}", returncode=2)
        chosen = list(known if whole else known.filter(slug=slug))
        if not chosen and not whole:
            names = ", ".join(known.values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"There is no organization {slug}. Known: {names}.", returncode=2)
        return chosen


def _as_json(checks: list[Checked], ok: bool) -> str:
    told = [{"id": each.id, "title": each.title, "ok": each.ok, "found": each.found} for each in checks]
    return json.dumps({"ok": ok, "checks": told}, ensure_ascii=False)


def _as_text(checks: list[Checked], ok: bool) -> str:
    lines = [f"{'ok   ' if each.ok else 'WRONG'} {each.id:<7} {each.title} ({each.milliseconds} ms)" for each in checks]
    for each in checks:
        if each.found:
            lines += ["", f"{each.id}: {each.title}", *(f"  {finding}" for finding in each.found), f"  → {each.remedy}"]
    return "\n".join([*lines, "", "all good" if ok else "Something is not as it must be: see above."])
