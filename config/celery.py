"""The worker fleet: queues, delivery guarantees of messages, and the beat."""

import os
from typing import Any

import structlog
from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.signals import setup_logging, task_failure, task_prerun, worker_init, worker_process_init
from django.conf import settings
from django.db import DatabaseError, close_old_connections
from kombu import Queue

from config import heartbeat, watchdog  # noqa: F401  (their receivers)

log = structlog.get_logger(__name__)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

app = Celery("pems_sync")
app.conf.update(
    broker_url=settings.REDIS_URL,
    task_ignore_result=True,  # the row is the truth; nobody reads results
    task_queues=[Queue(name) for name in ("pems.dispatch", "pems.read", "pems.write", "pems.dlq")],
    task_default_queue="pems.dispatch",
    task_routes={
        "pems_sync.deliver": {"queue": "pems.write"},
        "pems_sync.prove": {"queue": "pems.read"},
        "pems_sync.refresh": {"queue": "pems.read"},
        "pems_sync.pull": {"queue": "pems.read"},
        "pems_sync.read_named": {"queue": "pems.read"},
        "pems_sync.reconcile": {"queue": "pems.read"},
        "pems_sync.dead_letter": {"queue": "pems.dlq"},
    },
    task_acks_late=True,
    task_reject_on_worker_lost=False,  # the lease returns the rows; a redelivered poison message would crash again
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    task_send_sent_event=True,
    worker_hijack_root_logger=False,
    worker_max_tasks_per_child=None,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": 300,
        "socket_connect_timeout": 2,
        "socket_timeout": 10,
        "health_check_interval": 10,
    },
    broker_heartbeat=5,
    CELERY_DB_REUSE_MAX=1_000_000_000,  # else the database connection is closed before and after each task: 20 ms of it
    task_publish_retry=False,  # a lost bell is rung again by the sweep; a web request must not hang on Redis
    beat_schedule={
        "sweep": {"task": "pems_sync.sweep", "schedule": 1.0, "options": {"expires": 2}},
    },
    timezone="UTC",
)
app.autodiscover_tasks(["pems_sync"])


@setup_logging.connect
def _log_like_everybody_else(**_: Any) -> None:
    from config.logs import configure

    configure()


@task_failure.connect
def _tell_of_a_lost_child(sender: Any, exception: BaseException, args: Any, **_: Any) -> None:
    """Runs in the worker that survived its child."""
    if isinstance(exception, WorkerLostError) and sender.name == "pems_sync.deliver":
        from pems_sync import dispatch

        dispatch.worker_lost(str(args[0]))


@task_prerun.connect
def _leave_broken_connections_behind(**_: Any) -> None:
    """A connection is kept from task to task, and looked at before each: PostgreSQL may have been restarted."""
    close_old_connections()


@worker_init.connect
def _demand_the_schema(**_: Any) -> None:
    """A worker that met an older schema would fail task after task. Migrate first, then start workers (README.md)."""
    from config.schema import missing_migrations

    try:
        missing = missing_migrations()
    except DatabaseError as error:  # away, not old: the tasks find out when it is back
        log.warning("schema_not_looked_at", error=type(error).__name__)
        return
    if missing:
        log.critical("schema_is_older", missing=missing, remedy="run manage.py migrate, then start the workers")
        raise SystemExit(f"The database lacks {', '.join(missing)}. Run manage.py migrate, then start this worker.")


@worker_init.connect
def _warm_up_before_forking(**_: Any) -> None:
    """What is compiled and cached now is inherited by every child; connections are not."""
    from pems_sync.warming import warm_up

    warm_up(times=12)
    # Only now: Celery's own receiver, which closes what a child inherited, has to run before ours.
    worker_process_init.connect(_connect_each_child)


def _connect_each_child(**_: Any) -> None:
    from pems_sync.warming import warm_up

    warm_up(times=1)
