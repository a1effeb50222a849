"""The form of a decision: one of three strategies, and for a merge whose value stands, per field or group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django import forms

from conflicts.admin.comparing import Unit, units
from conflicts.admin.inputs import input_for, parsed, shown_in_input
from conflicts.admin.wording import worded
from conflicts.models import Conflict, Resolution
from pems_sync.admin.decisions import LONGEST_REASON
from pems_sync.api.texts import cleaned, is_printable
from pems_sync.drift import ConflictKind
from pems_sync.fields import FIELDS, MONEY_FIELDS, UNITS, FieldError, Value, Values
from pems_sync.models import Membership
from pems_sync.models.organization import Permission

OURS, THEIRS, OTHER = "ours", "theirs", "other"
LABELS: dict[str, str] = {
    Resolution.USE_LOCAL: "Use ours: our edit is sent again and replaces PEMS's values",
    Resolution.USE_PEMS: "Use PEMS's: its values stand and our edit is withdrawn",
    Resolution.MERGE: "Merge field by field: choose below whose value stands",
}


def strategies(conflict: Conflict) -> list[str]:
    """What can be chosen: a record that is gone cannot be written, and a soft delete cannot be split."""
    if conflict.kind == ConflictKind.EDIT_DELETED:
        return [Resolution.USE_PEMS]
    both = [Resolution.USE_LOCAL, Resolution.USE_PEMS]
    return [*both] if conflict.modification.is_delete else [*both, Resolution.MERGE]


def comment_in(typed: str) -> str:
    """The comment as it is kept. Raises ValidationError."""
    comment = cleaned(typed)
    if len(comment) > LONGEST_REASON or not is_printable(comment):
        raise forms.ValidationError(f"The comment must be plain text of at most {LONGEST_REASON} characters.")
    return comment


@dataclass(frozen=True)
class Picker:
    """What the page draws for one unit: whose value stands, and the inputs for another one."""

    unit: Unit
    pick: Any
    choices: list[tuple[str, str, str]]
    inputs: list[Any]


class DecisionForm(forms.Form):
    use_required_attribute = False

    def __init__(self, data: Any = None, *, conflict: Conflict, membership: Membership) -> None:
        initial = {"seen_pems_version": conflict.pems_version}
        super().__init__(data, initial=initial, prefix=None, auto_id="id_%s")
        self.membership, self.units = membership, units(conflict)
        self.strategies = strategies(conflict)
        self.money = membership.allows(Permission.VIEW_FINANCIALS)
        self.stored: Values = {
            **conflict.modification.record.fields, **{each["name"]: each["theirs"] for each in conflict.fields}
        }  # fmt: skip
        self.chosen: Values | None = None
        self.fields["resolution"] = forms.ChoiceField(
            choices=[(value, LABELS[value]) for value in self.strategies],
            error_messages={"required": "Choose how to settle it.", "invalid_choice": "Choose how to settle it."},
        )
        self.fields["comment"] = forms.CharField(required=False, max_length=2 * LONGEST_REASON)
        self.fields["seen_pems_version"] = forms.IntegerField(widget=forms.HiddenInput, min_value=0)
        for unit in self.units:
            self.fields[f"pick-{unit.name}"] = forms.ChoiceField(choices=self._picks(unit), required=False)
            for name in self._typed(unit):
                self.fields[f"own-{name}"] = input_for(name, shown_in_input(name, self.stored.get(name)))

    @property
    def may_merge(self) -> bool:
        return Resolution.MERGE in self.strategies

    @property
    def unavailable(self) -> str:
        """Why fewer than three ways are offered."""
        if Resolution.USE_LOCAL not in self.strategies:
            return "PEMS no longer knows this record, so nothing of ours can be sent."
        return "" if self.may_merge else "A soft delete stands or falls as a whole: there is nothing to merge."

    def pickers(self) -> Iterator[Picker]:
        for unit in self.units:
            texts = {side: self._text(unit, side) for side in (OURS, THEIRS)} | {OTHER: ""}
            choices = [(key, label, texts[key]) for key, label in self._picks(unit)]
            yield Picker(unit, self[f"pick-{unit.name}"], choices, [self[f"own-{name}"] for name in self._typed(unit)])

    def clean_comment(self) -> str:
        return comment_in(self.cleaned_data["comment"])

    def clean(self) -> dict[str, Any]:
        """Sets `chosen`: canonical values of the merge, None for the other two strategies."""
        if self.cleaned_data.get("resolution") == Resolution.MERGE:
            self.chosen = {}
            for unit in self.units:
                self.chosen |= self._chosen_of(unit)
        return self.cleaned_data

    def _chosen_of(self, unit: Unit) -> Values:
        match self.cleaned_data.get(f"pick-{unit.name}"):
            case "ours" | "theirs" as side:
                return {each["name"]: each[side] for each in unit.fields}
            case "other":
                return {each["name"]: each["theirs"] for each in unit.fields} | self._typed_values(unit)
            case _:
                self.add_error(f"pick-{unit.name}", f"Choose whose value of {unit.name} stands.")
                return {}

    def _typed_values(self, unit: Unit) -> Values:
        """What was typed; a partner of the group that is not in conflict counts only where it is changed."""
        values: Values = {}
        for name in self._typed(unit):
            try:
                value: Value = parsed(name, self.cleaned_data.get(f"own-{name}", ""))
            except FieldError as error:
                self.add_error(f"own-{name}", f"{name} {error.message}.")
                continue
            if name in unit.names or value != self.stored.get(name):
                values[name] = value
        return values

    def _picks(self, unit: Unit) -> list[tuple[str, str]]:
        picks = [(OURS, "Ours"), (THEIRS, "PEMS's")]
        return [*picks, (OTHER, "Another value")] if self._typed(unit) else picks

    def _typed(self, unit: Unit) -> list[str]:
        """Fields of the unit this person may type into: those they may edit, and amounts only if they may see them."""
        return [name for name in UNITS[unit.name] if self._may_type(name)]

    def _may_type(self, name: str) -> bool:
        permission = FIELDS[name].permission
        return permission in self.membership.permissions and (self.money or name not in MONEY_FIELDS)

    def _text(self, unit: Unit, side: str) -> str:
        texts = [(each["name"], worded(each["name"], each[side], money=self.money)) for each in unit.fields]
        return ", ".join(f"{name} {text}" if unit.is_group else text for name, text in texts)
