"""The Celery app: broker, routes, schedule. The web side sends by name; only workers import `worker.tasks`.

The database row is the truth and a message only a hint, so every setting here may lose or repeat a message; it may
not lose a worker, or run two tasks where one was asked for (reference: DESIGN.md decisions 1 and 2).
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from celery import Celery
from celery.signals import celeryd_init, setup_logging
from kombu import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

from django.conf import settings

TRANSPORT_ALIASES["spool"] = "worker.spool:Transport"

QUEUES = ("ctl", "cpu.media", "interactive", "offline")
LONGEST_TASK = 6 * 3600  # seconds; Redis must not give a message to a second worker before


def _broker() -> dict[str, Any]:
    if settings.REDIS_URL:
        return {
            "broker_url": settings.REDIS_URL,
            "broker_transport_options": {
                "visibility_timeout": LONGEST_TASK + 600,
                "unacked_restore_throttle": 1,
                "socket_connect_timeout": 2,
                "socket_timeout": 30,
                "socket_keepalive": True,
                "health_check_interval": 10,
                "global_keyprefix": settings.REDIS_KEY_PREFIX,
            },
        }
    return {
        "broker_url": "spool://",
        "broker_transport_options": {"folder": str(settings.SPOOL_DIR), "polling_interval": 0.1},
        "worker_enable_remote_control": False,  # it needs fanout, which a folder has not; a job is canceled by its row
    }


app = Celery("imprimatur")
app.conf.update(
    **_broker(),
    # A broker that is away stops nothing for good: workers wait for it, the outbox keeps what was to be sent.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_connection_timeout=2,
    broker_pool_limit=4,
    worker_pool="prefork",
    worker_prefetch_multiplier=1,
    worker_max_memory_per_child=2_000_000,  # KiB; a count of tasks would renew the processes that tick all the time
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    worker_soft_shutdown_timeout=10.0,
    task_acks_late=True,
    task_reject_on_worker_lost=True,  # a loop of crashes is ended by the cap on starts in the database
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_time_limit=LONGEST_TASK + 120,
    task_soft_time_limit=LONGEST_TASK,
    task_serializer="json",
    accept_content=["json"],
    result_backend=None,
    # A worker started without -Q takes all of them; `-Q offline` keeps long videos apart.
    task_queues=[Queue(name, Exchange(name, type="direct"), routing_key=name) for name in QUEUES],
    task_default_queue="ctl",
    task_default_exchange="ctl",
    task_default_routing_key="ctl",
    task_routes={
        "worker.screen_asset": {"queue": "cpu.media"},
        "worker.screen_job": {"queue": "cpu.media"},
        "worker.check_challenge": {"queue": "cpu.media"},
        "worker.enrol_block": {"queue": "cpu.media"},
        "worker.watch_drift": {"queue": "cpu.media"},
        "worker.run_job": {"queue": "interactive"},
        "worker.help_render": {"queue": "offline"},
        "worker.tick": {"queue": "ctl"},
        "worker.sequence": {"queue": "ctl"},
        "worker.expire": {"queue": "ctl"},
        "worker.retain": {"queue": "ctl"},
    },
    timezone="UTC",
    enable_utc=True,
    beat_schedule_filename=str(settings.HOME / "beat"),
    beat_schedule={
        # A tick nobody took in time is worth nothing: the next one does the same.
        "tick": {"task": "worker.tick", "schedule": 1.0, "options": {"queue": "ctl", "expires": 5}},
        "sequence": {"task": "worker.sequence", "schedule": 1.0, "options": {"queue": "ctl", "expires": 5}},
        "expire": {"task": "worker.expire", "schedule": 60.0, "options": {"queue": "ctl", "expires": 50}},
        "retain": {"task": "worker.retain", "schedule": 600.0, "options": {"queue": "ctl", "expires": 500}},
        "drift": {
            "task": "worker.watch_drift",
            "schedule": 86400.0,
            "options": {"queue": "cpu.media", "expires": 80000},
        },
    },
)
app.set_default()


@celeryd_init.connect
def _import_tasks(**_: Any) -> None:
    """Only a worker knows the tasks; the scheduler and the web side send them by name and load no model code.

    Celery logs what a signal's receiver raises and goes on; a worker without tasks would eat every message it is sent.
    """
    try:
        import_module("worker.tasks")
        import_module("worker.challenges")
    except Exception as error:
        raise SystemExit(f"The tasks cannot be loaded, so this worker does not start: {error!r}") from error


@setup_logging.connect
def _logging(loglevel: Any = "INFO", **_: Any) -> None:
    """Workers and beat log as the web side does; connecting here keeps Celery from setting up its own."""
    from webapp.observability import configure_logging

    configure_logging(loglevel if isinstance(loglevel, int | str) and loglevel else "INFO")
