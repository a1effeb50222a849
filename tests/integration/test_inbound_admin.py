"""The page that tells how far PEMS has been seen, and what was skipped or held back on the way."""

import pytest

from pems_sync.clock import database_now
from pems_sync.models import InboundState
from tests.integration.admin_cast import list_of, page_of, staff

MODEL = "pems_sync_inboundstate"


@pytest.fixture
def states(rio, portarthur, cast):
    told = {
        "brake": "9 of 10 records were missing",
        "broken_rows": [{"pfaId": "PFA-BAD", "message": "has no version"}],
        "adjusted": 7, "differences": 3, "seen_until": database_now(),
    }  # fmt: skip
    return [InboundState.objects.create(organization=each, **told) for each in (rio, portarthur)]


def test_members_see_where_their_own_organization_stands(states, cast):
    ours, theirs = states
    text = staff(cast.viewer).get(page_of(MODEL, ours)).content.decode()
    for word in ("PFA-BAD", "has no version", "9 of 10 records were missing", "waits for its next turn"):
        assert word in text
    listed = staff(cast.viewer).get(list_of(MODEL)).content.decode()
    assert page_of(MODEL, ours) in listed
    assert page_of(MODEL, theirs) not in listed
    assert staff(cast.viewer).get(page_of(MODEL, theirs)).status_code == 302


def test_it_is_to_be_read_only(states, cast):
    client = staff(cast.admin)
    assert client.get(list_of(MODEL) + "add/").status_code == 403
    assert 'name="_save"' not in client.get(page_of(MODEL, states[0])).content.decode()
