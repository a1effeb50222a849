"""`Idempotency-Key`: a request that is sent again gets the answer of the first time, and nothing is done twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection as database
from django.db import transaction

from pems_sync.clock import database_now
from pems_sync.errors import IdempotencyMismatchError, RequestInProgressError
from pems_sync.journal import deadlock_retried
from pems_sync.models import IdempotentRequest

KEPT_FOR = timedelta(hours=24)
Answer = dict[str, Any]


@deadlock_retried
def once(*, user: AbstractBaseUser, key: str, body: Mapping[str, Any], carry_out: Callable[[], Answer]) -> Answer:
    """The answer of `carry_out`, or the one it gave within the last 24 hours for the same key and body of this user.

    Answer and work are one transaction: a crash leaves neither. The same key at the same time: RequestInProgressError.
    Raises IdempotencyMismatchError for another body. An error of `carry_out` is not kept: the key is free again.
    """
    body_hash = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    with transaction.atomic():
        _take_turn(user, key)
        mine = IdempotentRequest.objects.filter(user_id=user.pk)
        mine.filter(created_at__lt=database_now() - KEPT_FOR).delete()
        before = mine.filter(key=key).first()
        if before is not None:
            return _repeated(before, body_hash)
        answer = carry_out()
        IdempotentRequest.objects.create(user_id=user.pk, key=key, body_hash=body_hash, answer=answer)
    return answer


def _take_turn(user: AbstractBaseUser, key: str) -> None:
    """Held to the end of the transaction. Raises RequestInProgressError when the same request is under way."""
    number = int.from_bytes(hashlib.sha256(f"{user.pk}:{key}".encode()).digest()[:8], signed=True)
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [number])
        if not cursor.fetchone()[0]:
            raise RequestInProgressError


def _repeated(before: IdempotentRequest, body_hash: str) -> Answer:
    if before.body_hash != body_hash:
        raise IdempotencyMismatchError
    if before.answer is None:
        raise RequestInProgressError
    return dict(before.answer)
