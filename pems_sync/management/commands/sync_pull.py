"""`manage.py sync_pull org-rio`: load an organization's records from PEMS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pems_sync import inbound
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.client.secrets import SecretsUnavailableError
from pems_sync.errors import PemsUnavailableError
from pems_sync.models import Organization


class Command(BaseCommand):
    help = "Pulls every record of an organization from PEMS. Unchanged rows write nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", nargs="*", help="slugs, such as org-rio")
        parser.add_argument("--all", action="store_true", help="every organization")

    def handle(self, *args: Any, **options: Any) -> None:
        slugs: list[str] = options["organization"]
        if bool(slugs) == bool(options["all"]):
            raise CommandError("Name one or more organizations, or give --all.")
        organizations = Organization.objects.select_related("connection").order_by("slug")
        chosen = list(organizations if options["all"] else organizations.filter(slug__in=slugs))
        unknown = set(slugs) - {organization.slug for organization in chosen}
        if unknown:
            known = ", ".join(organizations.values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"There is no organization {', '.join(sorted(unknown))}. Known: {known}.")
        for organization in chosen:
            self._pull(organization)

    def _pull(self, organization: Organization) -> None:
        try:
            pulled = inbound.pull(organization)
        except (PemsUnavailableError, PaceUnavailableError, SecretsUnavailableError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{organization.slug}: {pulled.seen} rows on {pulled.pages} pages, {pulled.changed} new or changed, "
            f"{len(pulled.broken)} skipped"
        )
        for row in pulled.broken[:20]:
            self.stderr.write(f"  skipped {row.pfa_id}: {row.message}")
