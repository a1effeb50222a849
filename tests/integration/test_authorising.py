"""At send, the last person who decided must still be allowed to write each field (D16)."""

import pytest

from pems_sync.models import Membership
from pems_sync.services.people import retry_modification
from pems_sync.states import DeadReason, State
from tests.invariants import assert_invariants


def lose(user, *permissions):
    membership = Membership.objects.get(user=user)
    membership.permissions = [each for each in membership.permissions if each not in permissions]
    membership.save()


@pytest.mark.parametrize(
    ("take_away", "said"),
    [
        (lambda user: lose(user, "sync"), "permission sync"),
        (lambda user: lose(user, "edit_forecast"), "permission edit_forecast"),
        (lambda user: Membership.objects.filter(user=user).delete(), "no longer an active member"),
        (lambda user: type(user).objects.filter(pk=user.pk).update(is_active=False), "no longer an active member"),
    ],
)
def test_an_edit_whose_author_lost_the_right_is_not_sent(engine, cast, take_away, said):
    mine, theirs = engine.edit(engine.records[0], model="1"), engine.edit(engine.records[1], by=cast.second, model="1")
    take_away(cast.planner)
    engine.settle()
    row = engine.row(mine)
    assert (row.state, row.dead_reason, row.error_code) == (State.DEAD, DeadReason.REJECTED, "NOT_AUTHORISED")
    assert said in row.error_message
    assert row.ledger.count() == 0
    assert engine.state(theirs) is State.CONFIRMED
    assert_invariants(engine.organization)


def test_somebody_who_may_can_send_it_on(engine, cast):
    row = engine.edit(engine.records[0], model="1")
    lose(cast.planner, "edit_forecast")
    engine.settle()
    retry_modification(membership=engine.member(cast.lead), modification=row)
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert engine.applied(row)[0]["modifiedBy"] == "rio-lead"


def test_only_the_fields_that_are_written_count(engine, cast):
    row = engine.edit(engine.records[0], by=cast.lead, model="1")
    lose(cast.lead, "edit_actuals")
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
