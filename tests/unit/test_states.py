"""The transition table says everything once."""

from pems_sync.states import FINAL, IN_FLIGHT, OPEN, TRANSITIONS, DeadReason, State, holds_lane, may_move


def test_every_state_is_in_the_table_and_documented():
    assert set(TRANSITIONS) == set(State)
    assert {State.CONFIRMED, State.SUPERSEDED, State.WITHDRAWN} == FINAL


def test_a_final_state_has_no_way_out():
    assert not any(may_move(old, new) for old in FINAL for new in State)


def test_nothing_moves_back_to_draft_and_nothing_moves_to_itself():
    assert not any(State.DRAFT in ways for ways in TRANSITIONS.values())
    assert not any(state in ways for state, ways in TRANSITIONS.items())


def test_only_the_queue_leads_to_sending():
    assert [old for old, ways in TRANSITIONS.items() if State.SENDING in ways] == [State.QUEUED]


def test_only_an_edit_that_was_sent_or_restored_can_become_unknown():
    assert [old for old, ways in TRANSITIONS.items() if State.UNKNOWN in ways] == [State.QUEUED, State.SENDING]


def test_every_committed_state_can_still_end():
    for state in set(State) - FINAL:
        assert reachable(state) & FINAL


def reachable(state: State) -> set[State]:
    found, new = {state}, {state}
    while new:
        new = {way for each in new for way in TRANSITIONS[each]} - found
        found |= new
    return found


def test_open_rows_and_poison_hold_their_lane_and_nothing_else_does():
    held = {(state, reason) for state in State for reason in (None, *DeadReason) if holds_lane(state, reason)}
    assert {state for state, _ in held} == OPEN | {State.DEAD}
    assert {reason for state, reason in held if state is State.DEAD} == {DeadReason.POISON}
    assert IN_FLIGHT < OPEN
