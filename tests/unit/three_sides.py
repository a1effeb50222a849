"""Three versions of a record, as often equal as different, for the properties of drift and policies."""

from hypothesis import strategies as st

from pems_sync.fields import FIELDS, Kind

VALUES = {
    Kind.TEXT: st.sampled_from([None, "A", "B"]),
    Kind.MONEY: st.sampled_from([None, "1.00", "2.00", "30.00"]),
    Kind.DATE: st.sampled_from([None, "2026-01-01", "2026-06-01"]),
    Kind.FLAG: st.booleans(),
}
EDITABLE = [name for name, field in FIELDS.items() if field.permission and name != "isDiscontinued"]
NAMES = sorted(FIELDS)


def value_of(name):
    choices = FIELDS[name].choices
    return st.sampled_from([None, *choices]) if choices else VALUES[FIELDS[name].kind]


@st.composite
def three_sides(draw, *, most_changed=4, most_moved=6):
    """(stored, changes, theirs): what was seen, what a planner wants, what PEMS holds now."""
    stored = {name: draw(value_of(name)) for name in NAMES} | {"isDiscontinued": False}
    names = draw(st.sets(st.sampled_from(EDITABLE), min_size=1, max_size=most_changed))
    changes = {name: draw(value_of(name)) for name in sorted(names)}
    moved = draw(st.sets(st.sampled_from(NAMES), max_size=most_moved))
    return stored, changes, stored | {name: draw(value_of(name)) for name in sorted(moved)}
