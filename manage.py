#!/usr/bin/env python
"""Django's command line. Beside a running `make up` it speaks to that stack's database, Redis and PEMS by itself."""

import json
import os
import sys
from pathlib import Path

UNREACHABLE = """{error}

PostgreSQL was asked at {address}.
Start the local stack (`make up`, in another terminal; VAR_DIR must be the same), or set DATABASE_URL."""


def adopt_running_stack() -> None:
    """`make up` leaves the addresses of its services in VAR_DIR; what the environment names itself goes first."""
    addresses = Path(os.environ.get("VAR_DIR") or Path(__file__).parent / "var") / "environment.json"
    if not os.environ.get("DATABASE_URL") and addresses.exists():
        for name, value in json.loads(addresses.read_text()).items():
            os.environ.setdefault(name, value)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
    adopt_running_stack()
    from django.core.management import execute_from_command_line
    from django.db import OperationalError, connection

    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        place = connection.settings_dict
        address = f"{place['HOST'] or 'a local socket'}:{place['PORT'] or 5432}"
        sys.exit(UNREACHABLE.format(error=str(error).strip().splitlines()[0], address=address))


if __name__ == "__main__":
    main()
