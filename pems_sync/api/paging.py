"""Pages by key, not by number: stable while rows come and go, and as fast on the last page as on the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from django.core import signing
from django.db.models import Model, Q, QuerySet

from pems_sync.errors import DomainError

Row = TypeVar("Row", bound=Model)


class InvalidCursorError(DomainError):
    """This cursor is not one that this list gave out. Start again without it."""

    code, status = "INVALID_CURSOR", 400


@dataclass(frozen=True)
class Page(Generic[Row]):
    rows: list[Row]
    next_cursor: str | None


@dataclass(frozen=True)
class Order:
    """A total order: field names, `-` for descending, the last one unique. `name` keeps cursors of lists apart."""

    name: str
    fields: tuple[str, ...]

    def page(self, rows: QuerySet[Row], *, limit: int, cursor: str | None, scope: object) -> Page[Row]:
        """`scope`: what a cursor belongs to, besides the list: the organization. Raises InvalidCursorError."""
        salt = f"{self.name}:{scope}"
        if cursor:
            rows = rows.filter(self._after(_read(cursor, salt, len(self.fields))))
        found = list(rows.order_by(*self.fields)[: limit + 1])
        more = len(found) > limit
        return Page(found[:limit], self._cursor(found[limit - 1], salt) if more else None)

    def _after(self, values: Sequence[Any]) -> Q:
        """Lexicographic: a later first key, or the same one and a later second key, and so on."""
        after, same = Q(pk__in=[]), Q()
        for field, value in zip(self.fields, values, strict=True):
            name = field.lstrip("-")
            after |= same & Q(**{f"{name}__{'lt' if field.startswith('-') else 'gt'}": value})
            same &= Q(**{name: value})
        first, bound = self.fields[0], "lte" if self.fields[0].startswith("-") else "gte"
        return Q(**{f"{first.lstrip('-')}__{bound}": values[0]}) & after  # so that the index is entered at the cursor

    def _cursor(self, row: Model, salt: str) -> str:
        values = [getattr(row, field.lstrip("-")) for field in self.fields]
        return signing.dumps([_plain(value) for value in values], salt=salt)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value if isinstance(value, int) else str(value)


def _read(cursor: str, salt: str, length: int) -> list[Any]:
    try:
        values = signing.loads(cursor, salt=salt)
    except (signing.BadSignature, ValueError) as error:
        raise InvalidCursorError from error
    if not isinstance(values, list) or len(values) != length:
        raise InvalidCursorError
    return values
