"""`manage.py breaker <connection> open|closed|auto --reason …`: a person's order to the breaker (D10)."""

from __future__ import annotations

from argparse import ArgumentParser
from getpass import getuser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from pems_sync.models import Connection
from pems_sync.services import breaking


class Command(BaseCommand):
    help = "Keeps a connection to PEMS quiet (open), sends although it looks bad (closed), or lets the machine decide (auto)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("connection")
        parser.add_argument("order", choices=sorted(breaking.ORDERS))
        parser.add_argument("--reason", default="", help="goes into the journal; needed for open and closed")

    def handle(self, *args: Any, connection: str, order: str, reason: str, **options: Any) -> None:
        if order != "auto" and not reason.strip():
            raise CommandError("Say why with --reason: it is shown to everybody who waits, and journalled.")
        row = Connection.objects.filter(slug=connection).first()
        if row is None:
            known = ", ".join(Connection.objects.order_by("slug").values_list("slug", flat=True))
            raise CommandError(f"There is no connection {connection!r}. Those known: {known or 'none'}.")
        actor = f"manage.py ({getuser()})"
        breaking.order(row, order=breaking.ORDERS[order], reason=reason.strip(), actor=actor)
        self.stdout.write(f"{row.slug}: {breaking.state_of(row)}, order {order}")
