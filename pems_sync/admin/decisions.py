"""Actions on lists. Each row goes through the gate and the service on its own, and each row's fate is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from enum import Enum
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from pems_sync.access import modification_for
from pems_sync.admin.desk import DeskAdmin
from pems_sync.api.texts import cleaned, is_printable
from pems_sync.errors import DomainError, NotFoundError
from pems_sync.models import Modification
from pems_sync.models.organization import Permission
from pems_sync.services.people import discard_dead_letters, retry_modification, withdraw_modification
from pems_sync.states import State

MOST_AT_ONCE = 200
LONGEST_REASON = 500


class Decision(Enum):
    """Action name, its verb on the page that asks, whether it needs a reason."""

    RETRY = ("retry_now", "Retry", False)
    WITHDRAW = ("withdraw", "Withdraw", False)
    DISCARD = ("discard", "Discard", True)

    def __init__(self, action: str, verb: str, needs_reason: bool) -> None:
        self.action, self.verb, self.needs_reason = action, verb, needs_reason


class DecidingAdmin(DeskAdmin):
    """A list of modifications that people decide about."""

    def ask_then_decide(self, request: HttpRequest, rows: QuerySet[Modification], decision: Decision) -> Any:
        """First a page that names the rows and asks for the reason; its form comes back here."""
        reason, trouble = "", ""
        if "confirmed" in request.POST:
            reason, trouble = _reason_in(request, decision)
            if not trouble:
                return self.decide(request, rows, decision, reason)
        chosen = self._chosen(request, rows)
        return self._question(request, chosen, decision, reason, trouble) if chosen else None

    def decide(self, request: HttpRequest, rows: QuerySet[Modification], decision: Decision, reason: str = "") -> None:
        told: dict[tuple[int, str], list[str]] = defaultdict(list)
        for row in self._chosen(request, rows):
            told[_carry_out(request.user, row, decision, reason)].append(f"{row.pfa_id} ({row.organization.slug})")
        for (level, sentence), names in told.items():
            self.message_user(request, f"{', '.join(names)}: {sentence}", level)

    def _chosen(self, request: HttpRequest, rows: QuerySet[Modification]) -> list[Modification]:
        """In the order in which they were first queued. None, and a message, when they are too many."""
        ordered = rows.select_related("organization").order_by("queued_at", "pk")
        chosen = list(ordered[: MOST_AT_ONCE + 1])
        if len(chosen) <= MOST_AT_ONCE:
            return chosen
        sentence = f"More than {MOST_AT_ONCE} are selected, and nothing was done. Narrow the list, or use the API."
        self.message_user(request, sentence, messages.ERROR)
        return []

    def _question(
        self, request: HttpRequest, rows: Iterable[Modification], decision: Decision, reason: str, trouble: str
    ) -> HttpResponse:
        context = self.admin_site.each_context(request) | {
            "title": f"{decision.verb} {self.opts.verbose_name_plural}",
            "opts": self.opts, "media": self.media, "rows": list(rows), "decision": decision, "reason": reason,
            "trouble": trouble, "checkbox": ACTION_CHECKBOX_NAME, "longest_reason": LONGEST_REASON,
        }  # fmt: skip
        return TemplateResponse(request, "admin/pems_sync/decide.html", context)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        try:
            return super().response_action(request, queryset, *args, **kwargs)
        except ValidationError:  # a selected id that is none
            self.message_user(request, "The selection could not be read; nothing was done.", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())


def _reason_in(request: HttpRequest, decision: Decision) -> tuple[str, str]:
    """The reason as it is kept, and what is wrong with it."""
    reason = cleaned(request.POST.get("reason", ""))
    if decision.needs_reason and not reason:
        return reason, "Say why: the reason is kept in the journal."
    if len(reason) > LONGEST_REASON or not is_printable(reason):
        return reason, f"The reason must be plain text of at most {LONGEST_REASON} characters."
    return reason, ""


def _carry_out(
    user: AbstractBaseUser | AnonymousUser, row: Modification, decision: Decision, reason: str
) -> tuple[int, str]:
    """What became of it: a message level and a sentence."""
    try:
        return messages.SUCCESS, _decided(user, row, decision, reason)
    except NotFoundError:
        return messages.ERROR, "Only members of the organization decide here; nothing was done."
    except DomainError as error:
        return messages.ERROR, error.message


def _decided(user: AbstractBaseUser | AnonymousUser, row: Modification, decision: Decision, reason: str) -> str:
    membership, fresh = modification_for(user, row.pk, Permission.SYNC)
    match decision:
        case Decision.RETRY:
            after = retry_modification(membership=membership, modification=fresh)
        case Decision.WITHDRAW:
            after = withdraw_modification(membership=membership, modification=fresh, reason=reason)
        case Decision.DISCARD:
            done = discard_dead_letters(membership=membership, modification_ids=[fresh.pk], reason=reason)
            if not done:
                return "It is no dead letter any more; nothing was done."
            after = done[0]
    return _fate(after)


def _fate(row: Modification) -> str:
    if row.read_back_for:
        return "It may have reached PEMS, so PEMS is read back first."
    return _FATES.get(State(row.state), f"It is {row.state} now.")


_FATES = {
    State.QUEUED: "Queued, to be sent at its turn.",
    State.WITHDRAWN: "Withdrawn; it will not be sent.",
    State.CONFLICTED: "PEMS changed the same fields meanwhile: it waits for a person as a conflict.",
    State.CONFIRMED: "PEMS has the wanted values already, so it counts as synced.",
}
