"""The resolver in a real browser: by keyboard alone, with a preview that follows, and told at once when PEMS moves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from conflicts.models import Conflict, Resolution
from pems_sync.events import RecordChanged
from pems_sync.journal import unit_of_work
from tests.browser.driver import Page, browser
from tests.integration.admin_cast import page_of, staff
from tests.integration.realtime_cast import web_process
from tests.integration.test_conflict_pages import MODEL, make_conflict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.usefixtures("transactional_db"),
    pytest.mark.process,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no browser on this machine"),
]


@pytest.fixture
def conflict(rio, cast) -> Conflict:
    return make_conflict(rio, cast.planner)


@pytest.fixture
def page(tmp_path: Path, cast, conflict: Conflict) -> Iterator[Page]:
    """The conflict's page, opened by a planner. Neither the policy of its content nor a script may complain."""
    session = staff(cast.planner).cookies["sessionid"].value
    profile = tmp_path / "browser"
    profile.mkdir()
    with web_process(str(tmp_path / "web.log")) as place, browser(str(CHROMIUM), profile) as found:
        found.call("Network.setCookie", name="sessionid", value=session, url=f"http://{place}/")
        found.open(f"http://{place}{page_of(MODEL, conflict)}")
        yield found
        assert [each for each in found.complaints if "favicon" not in each] == []


def tab_to(page: Page, script: str) -> None:
    """With the Tab key alone. The focus can be seen where it is."""
    for _ in range(60):
        page.press("Tab")
        if page.ask(f"document.activeElement.matches({script!r})"):
            assert page.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    raise AssertionError(f"{script} cannot be reached")


def test_a_conflict_is_merged_by_keyboard_with_a_preview_that_follows(page, conflict):
    assert page.ask("document.querySelector('#merge').hidden"), "hidden until it is asked for"
    tab_to(page, "[name=resolution]")
    for _ in range(2):
        page.press("ArrowDown")
    page.wait_for("!document.querySelector('#merge').hidden")
    page.wait_for("document.querySelector('#preview').innerText.includes('Choose whose value of model stands')")
    tab_to(page, "[name='own-model']")
    page.type("NEITHER")
    page.wait_for("document.querySelector('#id_pick-model_other').checked")
    page.wait_for("document.querySelector('#preview').innerText.includes('→ NEITHER')")
    assert Conflict.objects.unresolved().exists(), "a preview decides nothing"
    tab_to(page, "[value=apply]")
    page.press("Enter")
    page.wait_for("document.body.innerText.includes('resolved with')")
    conflict.refresh_from_db()
    assert (conflict.resolution, conflict.decided) == (Resolution.MERGE, {"model": "NEITHER"})


def test_a_move_of_pems_is_told_at_once_and_nothing_typed_is_lost(page, conflict):
    page.ask("document.querySelector('#id_resolution_merge').click()")
    tab_to(page, "[name='own-model']")
    page.type("TYPED")
    page.wait_for("document.querySelector('#preview').innerText.includes('→ TYPED')")
    record = conflict.modification.record
    record.version, record.fields["model"] = record.version + 1, "NEWER"
    record.save()
    with unit_of_work() as work:
        work.record(
            RecordChanged(
                organization_id=conflict.organization_id, pfa_id=conflict.pfa_id, actor="PEMS",
                new_version=record.version, changed_fields=("model",),
            )
        )  # fmt: skip
    page.wait_for("document.querySelector('#live-notice').innerText.includes('PEMS has just changed this record')")
    assert page.ask("document.querySelector('[name=own-model]').value") == "TYPED"
    page.ask("document.querySelector('#live-notice button').click()")
    page.wait_for("document.body.innerText.includes('NEWER')")
    assert page.ask("document.querySelector('[name=own-model]').value") == "TYPED"
