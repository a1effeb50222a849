"""Set-based writing: one statement for many rows that each have their own values.

Rows travel as one JSON parameter and are unfolded by PostgreSQL (`jsonb_to_recordset`). For a batch of 100 this takes a
tenth of Django's CASE per column, and for a single row there is no query to compile: its text is kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models

_Row = TypeVar("_Row", bound=models.Model)
Values = dict[str, Any]


class SetQuerySet(models.QuerySet[_Row]):
    def update_each(self, rows: Sequence[Values]) -> int:
        """Update the rows named by `pk` with their own values: `[{"pk": …, "state": …}, …]`, all with the same keys."""
        if not rows:
            return 0
        return _execute(_update_sql(self.model, tuple(rows[0])), rows)

    def insert_each(
        self, rows: Sequence[Values], *, known_ones_stay: bool = False, along_with: tuple[str, list[Any]] | None = None
    ) -> int:
        """Insert rows given by field name, all with the same keys; no defaults are filled in, no instance is made.
        `known_ones_stay`: rows that a unique constraint knows already are left out. `along_with`: a statement on another
        table, and its parameters, carried out in the same round trip. How many were inserted."""
        if not rows:
            return 0
        sql = _insert_sql(self.model, tuple(rows[0]), known_ones_stay)
        if along_with is None:
            return _execute(sql, rows)
        other, values = along_with
        return _execute(f"WITH along_with AS ({other}) {sql}", rows, *values)


def _execute(sql: str, rows: Sequence[Values], *before: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, [*before, json.dumps(list(rows), cls=MicrosecondEncoder)])
        return int(cursor.rowcount)


@cache
def _update_sql(model: type[models.Model], names: tuple[str, ...]) -> str:
    key = _quote(model._meta.pk.column) if model._meta.pk else ""
    columns = ", ".join(f"{_column(model, name)} = data.{_quote(name)}" for name in names if name != "pk")
    return (
        f"UPDATE {_quote(model._meta.db_table)} AS target SET {columns} FROM {_unfolded(model, names)} "  # noqa: S608  (names come from the model)
        f'WHERE target.{key} = data."pk"'
    )


@cache
def _insert_sql(model: type[models.Model], names: tuple[str, ...], known_ones_stay: bool) -> str:
    columns = ", ".join(_column(model, name) for name in names)
    values = ", ".join(f"data.{_quote(name)}" for name in names)
    end = " ON CONFLICT DO NOTHING" if known_ones_stay else ""
    return f"INSERT INTO {_quote(model._meta.db_table)} ({columns}) SELECT {values} FROM {_unfolded(model, names)}{end}"  # noqa: S608


def _unfolded(model: type[models.Model], names: tuple[str, ...]) -> str:
    typed = ", ".join(f"{_quote(name)} {_type(model, name)}" for name in names)
    return f"jsonb_to_recordset(%s::jsonb) AS data({typed})"


def _quote(name: str | None) -> str:
    return connection.ops.quote_name(str(name))


def _field(model: type[models.Model], name: str) -> models.Field[Any, Any]:
    if name == "pk" and model._meta.pk:
        return model._meta.pk
    field: models.Field[Any, Any] = model._meta.get_field(name)  # type: ignore[assignment]  # callers name columns only
    return field


def _column(model: type[models.Model], name: str) -> str:
    return _quote(_field(model, name).column)


def _type(model: type[models.Model], name: str) -> str:
    field = _field(model, name)
    return str(field.rel_db_type(connection) if field.is_relation or name == "pk" else field.db_type(connection))


class MicrosecondEncoder(DjangoJSONEncoder):
    """Django's encoder cuts times to milliseconds; a lease or a queue order must keep them whole."""

    def default(self, o: Any) -> Any:
        return o.isoformat() if hasattr(o, "isoformat") else super().default(o)
