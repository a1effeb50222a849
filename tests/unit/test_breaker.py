"""When the breaker opens, how long it waits, which edit goes ahead, and which tries count. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pems_sync.client.breaker import LEAST_REQUESTS, PAUSES_SECONDS, Counts, burns, opens, pause_seconds, risk

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("answered", "failed", "failed_in_a_row", "unreached_in_a_row", "expected"),
    [
        (0, 0, 0, 0, False),
        (0, 4, 4, 0, False),  # too few to say
        (0, 5, 5, 0, True),
        (2, 3, 1, 0, True),
        (3, 3, 1, 0, True),
        (3, 2, 1, 0, False),
        (97, 3, 3, 0, False),
        (97, 5, 4, 0, False),
        (97, 5, 5, 0, True),  # a busy time before does not outvote what is
        (0, 2, 2, 2, False),
        (0, 3, 3, 3, True),
        (50, 3, 3, 3, True),  # three in a row: it is gone since then
    ],
)
def test_it_opens_on_a_rate_or_in_a_row(answered, failed, failed_in_a_row, unreached_in_a_row, expected):
    assert opens(Counts(answered, failed, failed_in_a_row, unreached_in_a_row)) is expected


@given(answered=st.integers(1, 200))
def test_a_lone_lost_reply_never_opens_it(answered):
    assert not opens(Counts(answered, 1, 1))


@given(answered=st.integers(0, 200), failed=st.integers(0, 200))
def test_more_answers_never_open_it_and_more_failures_never_keep_it_closed(answered, failed):
    if opens(Counts(answered, failed)):
        assert opens(Counts(answered, failed + 1))
        assert answered + failed >= LEAST_REQUESTS
    else:
        assert not opens(Counts(answered + 1, failed)) or answered + failed < LEAST_REQUESTS


@given(lost=st.integers(0, 10_000), chance=st.floats(0, 1))
def test_pauses_grow_to_fifteen_seconds_and_no_further(lost, chance):
    assert 0.9 * PAUSES_SECONDS[min(lost, 4)] <= pause_seconds(lost, chance=chance) <= 15
    assert [pause_seconds(each, chance=0) for each in range(6)] == [1, 2, 4, 8, 15, 15]


def test_the_canary_is_the_edit_with_the_least_to_lose():
    def edit(*names, exposed=False, is_delete=False, waits=0):
        queued_at = NOW - timedelta(minutes=waits)
        return risk(exposed=exposed, is_delete=is_delete, changes=dict.fromkeys(names), queued_at=queued_at)

    in_order = [
        edit("model", waits=5),
        edit("model"),
        edit("model", "areaSilo", waits=90),
        edit("monthlyRate", waits=90),
        edit("actualStart", "actualEnd", waits=90),
        edit("isDiscontinued", is_delete=True, waits=90),
        edit("model", exposed=True, waits=90),
    ]
    assert sorted(in_order[place] for place in (3, 0, 6, 1, 5, 2, 4)) == in_order


@pytest.mark.parametrize(
    ("started", "is_closed", "since", "expected"),
    [
        (NOW, True, None, True),
        (NOW, True, NOW - timedelta(seconds=1), True),
        (NOW, True, NOW + timedelta(seconds=1), False),
        (NOW, False, NOW - timedelta(seconds=1), False),
        (None, True, None, False),  # perhaps never made
    ],
)
def test_a_try_counts_unless_the_breaker_changed_since_it_began(started, is_closed, since, expected):
    assert burns(started_at=started, is_closed=is_closed, since=since) is expected
