"""`manage.py pems_sandbox`: a stand-in for PEMS on real HTTP. See deploy/sandbox/README.md."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from deploy.sandbox import cli


class Command(BaseCommand):
    help = "A stand-in for PEMS on real HTTP, with faults that can be switched on and its own counting."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        cli.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(cli.run(options))
