"""The one owner of retries."""

from datetime import UTC, datetime

import pytest

from pems_sync.retry import RetryPolicy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = RetryPolicy()


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 5), (2, 10), (3, 20)])
def test_a_resend_waits_5_10_20_seconds(attempts, seconds):
    assert (POLICY.next_at(attempts=attempts, now=NOW) - NOW).total_seconds() == seconds


def test_a_longer_retry_after_is_honoured_and_a_shorter_one_is_not():
    assert (POLICY.next_at(attempts=1, now=NOW, retry_after_seconds=30) - NOW).total_seconds() == 30
    assert (POLICY.next_at(attempts=2, now=NOW, retry_after_seconds=1) - NOW).total_seconds() == 10


def test_three_resends_after_the_first_try_are_all():
    assert [POLICY.exhausted(attempts) for attempts in range(6)] == [False, False, False, False, True, True]
    assert RetryPolicy(max_retries=0).exhausted(1)


def test_the_delay_of_an_absurd_number_of_attempts_is_still_a_time():
    assert POLICY.next_at(attempts=10_000, now=NOW) > NOW
    assert POLICY.next_at(attempts=0, now=NOW) > NOW
