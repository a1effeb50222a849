"""What must hold of every comparison, whatever the values (K1 to K4)."""

import json
import unicodedata
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from pems_sync import validation
from pems_sync.drift import Converged, Disjoint, Overlap, Side, base_for, compare, sides
from pems_sync.fields import FIELDS, UNITS, Kind, unit_of
from pems_sync.fields import TEXT_LIMIT as LIMIT
from tests.unit.three_sides import NAMES, three_sides, value_of

few = settings(max_examples=100, deadline=None)
OTHER = {Side.OURS: Side.THEIRS, Side.THEIRS: Side.OURS}


@st.composite
def three_records(draw):
    stored = {name: draw(value_of(name)) for name in NAMES}
    ours, theirs = (
        stored | {name: draw(value_of(name)) for name in sorted(draw(st.sets(st.sampled_from(NAMES), max_size=6)))}
        for _ in range(2)
    )
    return stored, ours, theirs


def judged(three):
    stored, changes, theirs = three
    return compare(base=base_for(changes, stored), changes=changes, theirs=theirs, delete=False)


class TestSymmetry:
    """Nobody's side is the better one."""

    @few
    @given(three_records())
    def test_seen_from_the_other_side_ours_and_theirs_change_places_and_the_rest_stays(self, three):
        stored, ours, theirs = three
        there, back = sides(stored, ours, theirs), sides(stored, theirs, ours)
        assert {unit: OTHER.get(side, side) for unit, side in there.items()} == back

    @few
    @given(three_sides(), st.data())
    def test_an_edit_against_another_clashes_exactly_when_the_other_would_against_it(self, three, data):
        """Both as edits of the same units, each a real change, of a record nobody discontinued."""
        stored, changes, _ = three
        units = sorted({unit_of(name) for name in changes})
        names = [name for unit in units for name in UNITS[unit] if name in changes]
        other = {name: data.draw(value_of(name)) for name in names}
        mine = {name: value for name, value in changes.items() if value != stored[name]}
        other = {name: value for name, value in other.items() if value != stored[name] and name in mine}
        if not mine or set(mine) != set(other):
            return
        found, mirrored = judged((stored, mine, stored | other)), judged((stored, other, stored | mine))
        assert found == mirrored
        assert isinstance(found, Converged | Overlap)


class TestIdempotence:
    """A verdict that was carried out is not given again."""

    @few
    @given(three_sides())
    def test_once_written_the_edit_has_converged(self, three):
        _, changes, theirs = three
        if isinstance(judged(three), Disjoint):
            written = {**theirs, **changes}
            again = compare(base=base_for(changes, written), changes=changes, theirs=written, delete=False)
            assert again == Converged()

    @few
    @given(three_sides())
    def test_on_a_new_base_that_is_theirs_nothing_clashes_any_more(self, three):
        """As after a person's decision for our values: the same edit, seen against what PEMS holds."""
        _, changes, theirs = three
        again = compare(base=base_for(changes, theirs), changes=changes, theirs=theirs, delete=False)
        broken = validation.split(validation.violations_of(theirs, changes), changes)[0]
        assert isinstance(again, Converged | Disjoint) or broken

    @few
    @given(three_sides())
    def test_asked_twice_the_answer_is_the_same(self, three):
        assert judged(three) == judged(three)

    @few
    @given(three_sides())
    def test_what_pems_moves_elsewhere_afterwards_changes_no_verdict_of_going_on(self, three):
        """Rebased onto a version, the base stays: the same version looked at again goes on again."""
        stored, changes, theirs = three
        if isinstance(judged(three), Disjoint):
            assert judged((stored, changes, {**theirs, "description": "changed again"})) == Disjoint()


class TestNothingIsLost:
    @few
    @given(three_sides())
    def test_every_changed_value_is_in_the_merged_record_or_named_in_the_conflict(self, three):
        stored, changes, theirs = three
        found = judged(three)
        merged = {**theirs, **changes}
        named = set(found.fields) if isinstance(found, Overlap) else set()
        for name in NAMES:
            if theirs[name] != stored[name] and merged[name] != theirs[name]:
                assert name in named, f"PEMS's {name} would be overwritten"
        if isinstance(found, Converged):
            assert merged == theirs
        if isinstance(found, Overlap) and found.kind == "edit_edit":
            assert named & {partner for name in changes for partner in UNITS[unit_of(name)]}

    @few
    @given(three_sides())
    def test_a_group_that_goes_on_comes_from_one_side(self, three):
        stored, changes, theirs = three
        if isinstance(judged(three), Disjoint):
            merged, ours = {**theirs, **changes}, {**stored, **changes}
            for names in UNITS.values():
                unit = [merged[name] for name in names]
                assert unit in ([ours[name] for name in names], [theirs[name] for name in names])

    @few
    @given(three_sides())
    def test_a_record_merged_without_a_person_breaks_no_rule_we_touched(self, three):
        _, changes, theirs = three
        if isinstance(judged(three), Disjoint):
            assert not validation.split(validation.violations_of(theirs, changes), changes)[0]


texts = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), max_size=40).filter(lambda text: "<" not in text)
amounts = st.decimals(min_value=0, max_value=Decimal("99999999.99"), places=2)
dates = st.dates(date(1900, 1, 1), date(2200, 1, 1))
zones = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))


@st.composite
def spelled_twice(draw):
    """(name, one spelling, another spelling) of the same value."""
    name = draw(st.sampled_from([name for name, field in FIELDS.items() if field.permission and not field.choices]))
    if FIELDS[name].kind is not Kind.FLAG and draw(st.integers(0, 5)) == 0:
        return (name, *draw(st.permutations([None, ""])))
    match FIELDS[name].kind:
        case Kind.MONEY:
            amount = draw(amounts)
            spellings = [str(amount), float(amount), str(amount.normalize()), f"{amount:.2f}", f" {amount} ", amount]
            spellings += [int(amount)] if amount == int(amount) else []
        case Kind.DATE:
            day = draw(dates)
            at = datetime(day.year, day.month, day.day, draw(st.integers(0, 23)), 30, tzinfo=draw(zones))
            spellings = [day.isoformat(), day, at, at.isoformat(), f"{day}T00:00:00Z", f"{day} 12:00:00"]
        case Kind.TEXT:
            text = draw(texts)
            spellings = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")] + [f"  {text}\t"]
        case Kind.FLAG:
            spellings = [draw(st.booleans())] * 2
    return (name, draw(st.sampled_from(spellings)), draw(st.sampled_from(spellings)))


class TestFormatting:
    """Equal values never conflict, however they are written (K2)."""

    @few
    @given(three_sides(), spelled_twice())
    def test_equal_values_never_conflict(self, three, spelled):
        stored, _, _ = three
        name, one, other = spelled
        ours, theirs = FIELDS[name].parse(one), FIELDS[name].read(other)
        assert ours == theirs
        changes = {name: ours}
        found = compare(base=base_for(changes, stored), changes=changes, theirs={**stored, name: theirs}, delete=False)
        assert found == Converged()

    @few
    @given(spelled_twice())
    def test_a_value_comes_back_through_both_codecs_as_it_was(self, spelled):
        name, raw, _ = spelled
        field = FIELDS[name]
        value = field.parse(raw)
        assert field.parse(value) == value
        assert field.read(json.loads(json.dumps(field.to_pems(value)))) == value
        assert field.parse(json.loads(json.dumps(value))) == value
        assert value is None or field.kind is not Kind.TEXT or len(value) <= LIMIT
