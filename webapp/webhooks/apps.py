"""Webhooks: connects what happens in other rooms to the endpoints that want to know."""

from __future__ import annotations

from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    """Nobody calls this app: it listens where others let it."""

    name = "webapp.webhooks"
    label = "webhooks"

    def ready(self) -> None:
        from consent import services as consents
        from webapp.jobs import hiding, transitions, upkeep
        from webapp.outbox import services as outbox
        from webapp.webhooks import delivery, events

        outbox.register(delivery.TOPIC, delivery.deliver, slow=True)
        # Last of the effects: what is told of a withdrawal is what it did to jobs and outputs.
        consents.register_effect(events.on_consent_changed)
        hiding.register_hidden(events.on_outputs_hidden)
        transitions.register_ended(events.on_job_ended)
        upkeep.register_retention(delivery.forget_old, "webhook_log")
