"""`manage.py verify`: nothing is found in a database that the engine wrote, and each kind of damage by its own check."""

# ruff: noqa: S608  (damage is SQL)

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction

from pems_sync import verifying
from pems_sync.inbound import pages
from pems_sync.models import Connection, HourTally, Modification, Organization, Record
from pems_sync.verifying import looking
from tests.cast import make_record
from tests.conftest import warm_pace
from tests.engine import Engine


@pytest.fixture
def world(engine: Engine) -> Engine:
    """Of everything one: confirmed after drift, superseded, queued, being sent, conflicted, a draft; and another's chain."""
    first, second, third, fourth, fifth = engine.records[:5]
    engine.sandbox.edit(first.pfa_id, {"areaSilo": "moved"}, modified_by="j.doe")
    engine.edit(first, model="confirmed")
    engine.edit(fourth, model="ours")
    engine.sandbox.edit(fourth.pfa_id, {"model": "theirs"}, modified_by="j.doe")
    engine.settle()
    engine.edit(second, model="sending")
    engine.claim()
    engine.edit(third, model="1")
    engine.edit(third, areaSilo="2")
    engine.draft(fifth, model="draft")
    states = sorted(Modification.objects.values_list("state", flat=True))
    assert states == ["confirmed", "conflicted", "draft", "queued", "sending", "superseded"]
    return engine


def found(engine: Engine) -> dict[str, list[str]]:
    return {each.id: each.found for each in verifying.verify([engine.organization], whole=True) if not each.ok}


@contextmanager
def guards_off() -> Iterator[None]:
    """As whoever has the database's superuser could."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        cursor.execute("SET session_replication_role = replica")
        yield
        cursor.execute("SET session_replication_role = origin")


def damage(sql: str) -> int:
    with guards_off(), connection.cursor() as cursor:
        cursor.execute(sql)
        return int(cursor.rowcount)


ONE = "SELECT id FROM pems_sync_modification WHERE state = '{}'"
CONFIRMED, QUEUED = (ONE.format(state) for state in ("confirmed", "queued"))
COLUMNS = "modification_id, delivery_id, idempotency_key, request, batch_of, worker"

DAMAGES = [
    ("I1", f"""WITH later AS (UPDATE pems_sync_modification SET lease_epoch = 9 WHERE state = 'confirmed'), again AS (
        INSERT INTO pems_sync_attempt ({COLUMNS}, epoch, version_sent, started_at)
        SELECT {COLUMNS}, 9, version_sent, clock_timestamp() FROM pems_sync_attempt
        WHERE modification_id = ({CONFIRMED}) ORDER BY epoch DESC LIMIT 1 RETURNING id, started_at)
        INSERT INTO pems_sync_attemptoutcome (attempt_id, kind, detail, at) SELECT id, 'landed', '', started_at FROM again"""),
    ("I1", "DELETE FROM pems_sync_attemptoutcome WHERE kind = 'confirmed'"),
    ("I2", "DELETE FROM pems_sync_modification WHERE state = 'queued'"),
    ("I2", "DELETE FROM pems_sync_modification WHERE state = 'superseded'"),
    ("I2", "UPDATE pems_sync_hourtally SET committed = committed + 1"),
    ("I2", "UPDATE pems_sync_modification SET superseded_by_id = NULL WHERE state = 'superseded'"),
    ("I2", "UPDATE pems_sync_modification SET committed_at = now() WHERE state = 'draft'"),
    ("I4", "ALTER TABLE pems_sync_attempt DISABLE TRIGGER append_only_rows"),
    ("I4", "ALTER TABLE pems_sync_attemptoutcome DISABLE TRIGGER append_only_table"),
    ("I4", "DROP TRIGGER append_only_rows ON pems_sync_journalentry"),
    ("I4", "ALTER TABLE pems_sync_recordversion ENABLE REPLICA TRIGGER append_only_rows"),
    ("I5", "UPDATE pems_sync_modification SET lease_epoch = 0 WHERE state = 'confirmed'"),
    ("I5", f"""WITH later AS (UPDATE pems_sync_modification SET lease_epoch = 9 WHERE state = 'confirmed')
        INSERT INTO pems_sync_attempt ({COLUMNS}, epoch, version_sent, started_at)
        SELECT {COLUMNS}, 9, version_sent, started_at FROM pems_sync_attempt
        WHERE modification_id = ({CONFIRMED}) ORDER BY epoch DESC LIMIT 1"""),
    ("I6", "UPDATE pems_sync_attempt SET request = jsonb_set(request, '{changes,model}', '\"other\"')"),
    ("I6", "DELETE FROM pems_sync_recordversion WHERE (record_id, version) IN (SELECT record_id, version_sent FROM"
        " pems_sync_attempt AS a JOIN pems_sync_modification AS m ON m.id = a.modification_id WHERE m.state = 'confirmed')"),
    ("I7", "UPDATE pems_sync_record SET fields = jsonb_set(fields, '{model}', '\"pending\"')"),
    ("I7", "UPDATE pems_sync_record SET version = version - 1"),
    ("I7", "UPDATE pems_sync_record SET content_hash = ''"),
    ("I7", f"UPDATE pems_sync_recordversion SET modification_id = ({QUEUED})"),
    ("I8", "UPDATE pems_sync_modification SET base = jsonb_set(base, '{model}', '\"never seen\"') WHERE state = 'draft'"),
    ("I8", "UPDATE pems_sync_modification SET base = jsonb_set(base, '{model}', '\"never seen\"') WHERE state = 'queued'"),
    ("I9", "UPDATE pems_sync_journalentry SET reason = 'another' WHERE kind = 'modification_queued'"),
    ("I9", "UPDATE pems_sync_modification SET state = 'withdrawn', is_head = false, finished_at = now() WHERE state = 'queued'"),
    ("I9", "UPDATE pems_sync_journalhead SET last_hash = ''"),
    ("I10", "UPDATE pems_sync_journalhead SET seq = seq + 1"),
    ("I10", "UPDATE pems_sync_journalhead SET position = position - 1"),
    ("I10", "ALTER TABLE pems_sync_journalentry DROP CONSTRAINT i10_seq_once"),
    ("heads", "UPDATE pems_sync_modification SET is_head = false WHERE state = 'queued'"),
    ("stuck", "UPDATE pems_sync_modification SET lease_until = now() - interval '1 hour' WHERE state = 'sending'"),
    ("guards", "ALTER TABLE pems_sync_modification DISABLE TRIGGER guard_transition"),
    ("guards", "DROP TRIGGER never_deleted ON pems_sync_modification"),
    ("guards", "CREATE OR REPLACE FUNCTION pems_sync_guard_transition() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RETURN NEW; END'"),
]  # fmt: skip


def test_each_damage_is_found_by_its_check_and_by_no_other(world):
    assert found(world) == {}
    for check, sql in DAMAGES:
        with contextmanager(taken_back)():
            assert damage(sql) != 0, sql
            wrong = found(world)
        assert list(wrong) == [check], (check, sql, wrong)
        assert 0 < len(wrong[check]) <= looking.MOST_TOLD + 1
    assert found(world) == {}
    assert {check for check, _ in DAMAGES} | {"I3"} == {check.id for check in verifying.CHECKS}, "one has no test"


def taken_back() -> Iterator[None]:
    """What happens inside is undone."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def test_damage_that_several_checks_find_is_found_by_the_one_it_is_about(world):
    with contextmanager(taken_back)():
        damage("DROP INDEX i3_one_in_flight_per_record")
        assert found(world) == {"I3": ["the unique index i3_one_in_flight_per_record is missing or not valid"]}
        damage("ALTER TABLE pems_sync_modification DROP CONSTRAINT only_a_head_is_in_flight")
        damage(UNDER_WAY_AS_WELL)
        assert any("2 edits are under way" in each for each in found(world)["I3"])
    with contextmanager(taken_back)():
        damage("ALTER TABLE pems_sync_attempt DROP CONSTRAINT i4_attempt_once_per_epoch")
        damage(AGAIN_IN_ITS_EPOCH)
        assert any("2 attempts of epoch" in each for each in found(world)["I4"])
    with contextmanager(taken_back)():
        damage(CLAIMED_BACK_TO_DRAFT)
        assert any("and there is no such way" in each for each in found(world)["I9"])
    with contextmanager(taken_back)():
        damage("DELETE FROM pems_sync_journalentry WHERE position = 2")
        assert set(found(world)) == {"I9", "I10"}


UNDER_WAY_AS_WELL = """
UPDATE pems_sync_modification SET state = 'unknown', not_before = now(), superseded_by_id = NULL, finished_at = NULL,
    record_id = (SELECT record_id FROM pems_sync_modification WHERE state = 'sending')
WHERE state = 'superseded'
"""
CLAIMED_BACK_TO_DRAFT = """
UPDATE pems_sync_journalentry SET after = jsonb_set(after, '{state}', '"draft"') WHERE after ->> 'state' = 'sending'
"""
AGAIN_IN_ITS_EPOCH = f"""
INSERT INTO pems_sync_attempt ({COLUMNS}, epoch, version_sent, started_at)
SELECT {COLUMNS}, epoch, version_sent, started_at FROM pems_sync_attempt LIMIT 1
"""


@pytest.fixture
def spoilt(rio: Organization, portarthur: Organization) -> None:
    """More wrong records than are told."""
    for _ in range(looking.MOST_TOLD + 5):
        make_record(rio)
    make_record(portarthur)
    Record.objects.filter(organization=rio).update(content_hash="")


def test_more_is_only_said_to_be_there(spoilt, rio):
    told = verifying.verify([rio], whole=False)
    [wrong] = [each for each in told if not each.ok]
    assert (wrong.id, len(wrong.found), wrong.found[-1]) == ("I7", looking.MOST_TOLD + 1, "… and more")


def test_of_one_organization_nothing_of_another_is_told(spoilt):
    assert verify("--organization", "org-portarthur")[0] == 0


# ---------------------------------------------------------------- the command


def verify(*arguments: str) -> tuple[int, str]:
    """Exit code and output."""
    out = StringIO()
    try:
        call_command("verify", *arguments, stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


def last_line(output: str) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return line


def test_it_exits_with_0_when_all_is_good(rio):
    make_record(rio)
    code, output = verify("--all")
    assert (code, output.strip().splitlines()[-1]) == (0, "all good")
    code, output = verify("--all", "--json")
    told = last_line(output)
    assert (code, told["ok"]) == (0, True)
    assert [each["id"] for each in told["checks"]] == [check.id for check in verifying.CHECKS]
    assert all(set(each) == {"id", "title", "ok", "found"} for each in told["checks"])


def test_it_exits_with_1_and_says_what_to_do(spoilt):
    code, output = verify("--all")
    assert code == 1
    assert "WRONG I7" in output
    assert "reconcile ORGANIZATION --repair" in output
    assert last_line(verify("--organization", "org-rio", "--json")[1])["ok"] is False


@pytest.mark.parametrize(
    "arguments", [[], ["--json"], ["--all", "--organization", "org-rio"], ["--organization", "org-x"]]
)
def test_called_wrongly_it_exits_with_2(rio, arguments):
    code, told = verify(*arguments)
    assert code == 2
    assert "usage" in told or "There is no organization org-x. Known: org-rio." in told


def test_without_an_answer_it_exits_with_2(rio, monkeypatch):
    def unreachable(*_: Any, **__: Any) -> None:
        raise OperationalError("connection refused\nmore")

    monkeypatch.setattr("pems_sync.management.commands.verify.verify", unreachable)
    assert verify("--all") == (2, "The database could not be asked: connection refused")


def test_pems_is_compared_when_asked_for(engine):
    code, output = verify("--organization", "org-rio", "--pems")
    assert code == 0, output
    engine.sandbox.edit(engine.records[9].pfa_id, {"model": "unseen"}, modified_by="j.doe")
    assert verify("--all")[0] == 0
    code, output = verify("--organization", "org-rio", "--pems", "--json")
    assert code == 1
    wrong = [each for each in last_line(output)["checks"] if not each["ok"]]
    assert [each["id"] for each in wrong] == ["I13"]
    assert engine.records[9].pfa_id in wrong[0]["found"][0]


def test_a_pems_that_cannot_be_reached_is_no_finding(rio, monkeypatch):
    monkeypatch.setattr(pages, "TRIES_PER_PAGE", 1)
    warm_pace(rio.connection)
    Connection.objects.update(base_url="http://127.0.0.1:1")
    code, told = verify("--all", "--pems")
    assert (code, told[:24]) == (2, "PEMS could not be asked:")


def test_accepted_edits_are_counted_anew_on_request(engine):
    engine.edit(engine.records[0], model="1")
    HourTally.objects.update(committed=0)
    assert verify("--all")[0] == 1
    assert verify("--all", "--recount")[0] == 0


def test_it_reads_one_snapshot_and_writes_nothing(transactional_db, rio, monkeypatch):
    seen: dict[str, str] = {}

    def look(*_: Any) -> Iterator[str]:
        with connection.cursor() as cursor:
            for name in ("transaction_isolation", "transaction_read_only"):
                cursor.execute(f"SHOW {name}")
                seen[name] = cursor.fetchone()[0]
        return iter(())

    check = verifying.Check("X", "a look", "none", looks=(look,))
    monkeypatch.setattr("pems_sync.verifying.running.CHECKS", (check,))
    assert verify("--all")[0] == 0
    assert seen == {"transaction_isolation": "repeatable read", "transaction_read_only": "on"}
