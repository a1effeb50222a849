"""What constraints cannot say: append-only tables and the transition table, enforced by triggers."""

from django.db import migrations

APPEND_ONLY = ("attempt", "attemptoutcome", "journalentry", "recordversion")

# The transition table as of this migration. tests/integration/test_guards.py compares the trigger with states.py.
TRANSITIONS = {
    "draft": ["queued", "withdrawn"],
    "queued": ["sending", "conflicted", "confirmed", "superseded", "withdrawn", "dead"],
    "sending": ["queued", "unknown", "confirmed", "conflicted", "dead"],
    "unknown": ["queued", "confirmed", "conflicted", "dead"],
    "conflicted": ["queued", "withdrawn"],
    "dead": ["queued", "conflicted", "confirmed", "withdrawn"],
}

REFUSE = """
CREATE FUNCTION pems_sync_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'integrity_constraint_violation';
END $$;
"""


def _append_only(table: str) -> str:
    return f"""
    CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON pems_sync_{table}
        FOR EACH ROW EXECUTE FUNCTION pems_sync_refuse_change();
    CREATE TRIGGER append_only_table BEFORE TRUNCATE ON pems_sync_{table}
        FOR EACH STATEMENT EXECUTE FUNCTION pems_sync_refuse_change();
    """


def _transition_guard() -> str:
    ways = ", ".join(f"('{old}', '{new}')" for old, news in TRANSITIONS.items() for new in news)
    return f"""
    CREATE FUNCTION pems_sync_guard_transition() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (OLD.state, NEW.state) NOT IN ({ways}) THEN
            RAISE EXCEPTION 'modification %: no way from % to %', OLD.id, OLD.state, NEW.state
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER guard_transition BEFORE UPDATE OF state ON pems_sync_modification
        FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION pems_sync_guard_transition();
    CREATE TRIGGER never_deleted BEFORE DELETE ON pems_sync_modification
        FOR EACH ROW EXECUTE FUNCTION pems_sync_refuse_change();
    """


FORWARD = REFUSE + "".join(_append_only(table) for table in APPEND_ONLY) + _transition_guard()
BACKWARD = (
    "".join(
        f"DROP TRIGGER append_only_rows ON pems_sync_{table}; DROP TRIGGER append_only_table ON pems_sync_{table};"
        for table in APPEND_ONLY
    )
    + "DROP TRIGGER guard_transition ON pems_sync_modification; DROP TRIGGER never_deleted ON pems_sync_modification;"
    + "DROP FUNCTION pems_sync_guard_transition(); DROP FUNCTION pems_sync_refuse_change();"
)


class Migration(migrations.Migration):
    dependencies = [("pems_sync", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
