"""Set-based writing: one statement for many rows that each get their own values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models

_Row = TypeVar("_Row", bound=models.Model)


class SetQuerySet(models.QuerySet[_Row]):
    def update_each(self, rows: Sequence[dict[str, Any]]) -> int:
        """Update the rows named by `pk` with their own values: `[{"pk": …, "state": …}, …]`, all with the same keys.

        One `UPDATE … FROM jsonb_to_recordset` instead of Django's CASE per column, which takes ten times as long
        for a batch of 100.
        """
        return _update_each(self.model, rows)


def _update_each(model: type[models.Model], rows: Sequence[dict[str, Any]]) -> int:
    if not rows:
        return 0
    meta = model._meta
    columns = {name: _field(meta, name) for name in rows[0] if name != "pk"}
    quote = connection.ops.quote_name
    typed = [f"{quote('pk')} {meta.pk.db_type(connection)}"] if meta.pk else []
    typed += [
        f"{quote(name)} {field.rel_db_type(connection) if field.is_relation else field.db_type(connection)}"
        for name, field in columns.items()
    ]
    assignments = ", ".join(f"{quote(str(field.column))} = data.{quote(name)}" for name, field in columns.items())
    sql = (
        f"UPDATE {quote(meta.db_table)} AS target SET {assignments} "  # noqa: S608  (names come from the model)
        f"FROM jsonb_to_recordset(%s::jsonb) AS data({', '.join(typed)}) "
        f"WHERE target.{quote(str(meta.pk.column) if meta.pk else 'id')} = data.{quote('pk')}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [json.dumps(list(rows), cls=MicrosecondEncoder)])
        return int(cursor.rowcount)


def _field(meta: Any, name: str) -> models.Field[Any, Any]:
    field: models.Field[Any, Any] = meta.get_field(name)
    return field


class MicrosecondEncoder(DjangoJSONEncoder):
    """Django's encoder cuts times to milliseconds; a lease or a queue order must keep them whole."""

    def default(self, o: Any) -> Any:
        return o.isoformat() if hasattr(o, "isoformat") else super().default(o)
