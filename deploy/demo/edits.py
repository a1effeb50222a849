"""What the planners of the demo change, and what goes wrong meanwhile: one edit per record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from deploy.sandbox.process import SandboxProcess

CLASH, ELSEWHERE, REJECTED = 0.02, 0.03, 3
FAULT_RATES = {"item_503": 0.01, "batch_missing_result": 0.005, "status_503": 0.01, "lost_reply": 0.005}


@dataclass(frozen=True)
class Edit:
    pfa_id: str
    version: int
    changes: dict[str, Any]

    @property
    def as_draft(self) -> dict[str, Any]:
        return {"pfaId": self.pfa_id, "changes": self.changes, "baseVersion": self.version, "reason": "demo"}


def usable(record: dict[str, Any]) -> bool:
    fields = record["fields"]
    return not fields["isDiscontinued"] and not fields["isActualized"] and fields["forecastEnd"] is not None


def edits(records: Sequence[dict[str, Any]]) -> list[Edit]:
    """A realistic mix: later ends, new rates, other areas, other machines."""
    kinds = (_later_end, _new_rate, _other_area, _other_model)
    return [
        Edit(row["pfaId"], row["version"], kinds[number % len(kinds)](row["fields"]))
        for number, row in enumerate(records)
    ]


def _later_end(fields: dict[str, Any]) -> dict[str, Any]:
    return {"forecastEnd": (date.fromisoformat(fields["forecastEnd"]) + timedelta(days=14)).isoformat()}


def _new_rate(fields: dict[str, Any]) -> dict[str, Any]:
    name = "monthlyRate" if fields["source"] == "Rental" else "purchasePrice"
    return {name: str((Decimal(fields[name]) * Decimal("1.03")).quantize(Decimal("0.01")))}


def _other_area(fields: dict[str, Any]) -> dict[str, Any]:
    return {"areaSilo": "Laydown 7" if fields["areaSilo"] != "Laydown 7" else "Laydown 8"}


def _other_model(fields: dict[str, Any]) -> dict[str, Any]:
    return {"model": f"{fields['model'] or 'Model'} XE"[:100]}


def arrange_trouble(sandbox: SandboxProcess, wanted: Sequence[Edit]) -> tuple[int, int]:
    """Other people change some of the same records in PEMS, and PEMS misbehaves. (clashing, elsewhere)."""
    clashing = wanted[:: max(1, int(1 / CLASH))]
    elsewhere = wanted[7 :: max(1, int(1 / ELSEWHERE))]
    others = [edit for edit in elsewhere if edit not in clashing]
    changes = [{"pfaId": edit.pfa_id, "changes": _against(edit)} for edit in clashing]
    changes += [{"pfaId": edit.pfa_id, "changes": {"equipment": f"EQ-{edit.pfa_id[-4:]}"}} for edit in others]
    sandbox.edit_many(changes)
    rejected = wanted[11 : 11 + 13 * REJECTED : 13]
    script = [{"kind": "item_422", "pfaId": edit.pfa_id, "times": 1} for edit in rejected]
    sandbox.faults(rates=FAULT_RATES, operations=["PUT", "BATCH"], script=script, seed=7)
    return len(clashing), len(others)


def _against(edit: Edit) -> dict[str, Any]:
    """The same field, another value."""
    name, value = next(iter(edit.changes.items()))
    if name == "forecastEnd":
        return {name: (date.fromisoformat(value) + timedelta(days=30)).isoformat()}
    if name in ("monthlyRate", "purchasePrice"):
        return {name: float(Decimal(value) + 250)}
    return {name: f"{value} (PEMS)"[:100]}
