"""What goes over the wire (API.md, Socket): every frame is an array of events, in order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

VERSION = 1


def event(
    slug: str,
    seq: int | None,
    wire_type: str,
    pfa_id: str = "",
    modification_id: UUID | None = None,
    recorded_at: datetime | None = None,
    details: dict[str, Any] | None = None,
) -> str:
    """One event as JSON. Without `seq` it has none; without `recorded_at` it is of this moment."""
    at = (recorded_at or datetime.now(UTC)).astimezone(UTC)
    content = {
        "v": VERSION,
        **({} if seq is None else {"seq": seq}),
        "type": wire_type,
        "organizationId": slug,
        "pfaId": pfa_id or None,
        "modificationId": str(modification_id) if modification_id else None,
        "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "details": details or {},
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def frame(events: Iterable[str]) -> str:
    return f"[{','.join(events)}]"


def connected(slug: str, seq: int) -> str:
    """The first frame. Its seq is that of the last event, not its own."""
    return frame([event(slug, seq, "CONNECTED", details={"seq": seq})])


def reset(slug: str) -> str:
    """What you missed cannot be told one by one: fetch again. Live events go on."""
    return frame([event(slug, None, "RESET")])


NOT_A_RESUME = object()


def resumed_after(text: str | None) -> object:
    """The `after` of a RESUME, whatever it is; NOT_A_RESUME for every other message, which is ignored."""
    try:
        message = json.loads(text or "")
    except (ValueError, RecursionError):
        return NOT_A_RESUME
    if not isinstance(message, dict) or message.get("type") != "RESUME":
        return NOT_A_RESUME
    return message.get("after")
