"""The table *Unknown: proof, and when a resend is allowed* of PROTOCOL.md, row by row. b is 4."""

from dataclasses import replace

import pytest

from pems_sync.client.base import Gone, PemsRecord
from pems_sync.proof import Sent, Verdict, judge
from tests.cast import plausible

BEFORE = plausible(model="0")
SENT = Sent(version=4, changes={"model": "1"}, modified_by="rio-planner")


def read(version, by="rio-planner", **fields):
    return PemsRecord("PFA-1", "RIO", version, None, by, {**BEFORE, **fields})


@pytest.mark.parametrize("version", [4, 3])
def test_where_it_was_is_not_landed_yet(version):
    assert judge(SENT, before=BEFORE, read=read(version)) is Verdict.NOT_LANDED_YET


@pytest.mark.parametrize("version", [5, 6, 9])
def test_beyond_b_with_all_our_values_is_landed(version):
    assert judge(SENT, before=BEFORE, read=read(version, model="1")) is Verdict.LANDED
    assert judge(SENT, before=BEFORE, read=read(version, by="pems.user", model="1", areaSilo="East")) is Verdict.LANDED


def test_b_plus_1_by_somebody_else_is_not_landed():
    assert judge(SENT, before=BEFORE, read=read(5, by="pems.user", model="7")) is Verdict.NOT_LANDED


def test_b_plus_1_with_other_fields_changed_is_not_landed():
    assert judge(SENT, before=BEFORE, read=read(5, areaSilo="East")) is Verdict.NOT_LANDED


def test_b_plus_1_under_our_name_with_other_values_is_overtaken():
    assert judge(SENT, before=BEFORE, read=read(5, model="7")) is Verdict.OVERTAKEN


def test_landed_as_5_and_reverted_in_6_by_a_pems_user_is_overtaken_and_never_resent():
    assert judge(SENT, before=BEFORE, read=read(6, by="pems.user", model="0")) is Verdict.OVERTAKEN


def test_some_of_our_values_are_not_all():
    sent = replace(SENT, changes={"model": "1", "areaSilo": "East"})
    assert judge(sent, before=BEFORE, read=read(6, model="1")) is Verdict.OVERTAKEN


def test_without_the_values_before_only_the_name_can_tell():
    assert judge(SENT, before=None, read=read(5, model="7", areaSilo="East")) is Verdict.OVERTAKEN
    assert judge(SENT, before=None, read=read(5, by="pems.user", model="7")) is Verdict.NOT_LANDED


def test_a_record_that_vanished_is_gone():
    assert judge(SENT, before=BEFORE, read=Gone()) is Verdict.GONE
