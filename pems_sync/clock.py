"""One clock for all processes: the database's. A worker whose own clock is wrong does no harm (D3)."""

from datetime import datetime

from django.db import connection


def database_now() -> datetime:
    """The present time, not the start of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now
