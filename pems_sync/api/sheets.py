"""Lists as CSV, for spreadsheets. The cursor of the next page is in `X-Next-Cursor`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request


def wants_csv(request: Request) -> bool:
    return "text/csv" in request.headers.get("Accept", "").lower()


def as_csv(name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], next_cursor: str | None) -> HttpResponse:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    if next_cursor:
        headers["X-Next-Cursor"] = next_cursor
    return HttpResponse(out.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)


def _cell(value: Any) -> Any:
    """A spreadsheet takes text that starts like a formula for one: an apostrophe keeps it text."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return "" if value is None else value
    return (
        f"'{value}"
        if value.lstrip(" \n").startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠", "|", "%"))
        else value
    )
