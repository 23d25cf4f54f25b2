"""The outbox: topics that this app itself can deliver are registered at start-up."""

from __future__ import annotations

from django.apps import AppConfig


class OutboxConfig(AppConfig):
    """Registers the two topics every deployment has: Celery tasks by name, and mail."""

    name = "webapp.outbox"
    label = "outbox"

    def ready(self) -> None:
        from webapp.outbox import delivery, services

        services.register("task", delivery.send_task)
        services.register("mail", delivery.send_mail)
