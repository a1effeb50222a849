"""Ten requests per second and user, in any second (C17)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from limits import RateLimitItemPerSecond
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from pems_sync.api import windows

if TYPE_CHECKING:
    from rest_framework.views import APIView  # DRF reads this module while it makes that class


@dataclass(frozen=True)
class Allowance:
    """What the RateLimit headers of an answer say."""

    limit: int
    remaining: int
    reset_seconds: int

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
        }


class SlidingUserThrottle(BaseThrottle):
    """Leaves the allowance on the request; `Endpoint` puts it on the answer. Anonymous requests are not counted."""

    allowance: Allowance

    def allow_request(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return True
        limit = RateLimitItemPerSecond(int(settings.API_USER_RATE_LIMIT))
        allowed = windows.take(limit, "user", str(request.user.pk))
        remaining, reset = windows.room(limit, "user", str(request.user.pk))
        self.allowance = Allowance(limit.amount, remaining if allowed else 0, reset)
        request.allowance = self.allowance  # type: ignore[attr-defined]  # read by Endpoint
        return allowed

    def wait(self) -> float:
        return float(self.allowance.reset_seconds)
