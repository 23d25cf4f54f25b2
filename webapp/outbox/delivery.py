"""How a message of the topics `task` and `mail` leaves the house."""

from __future__ import annotations

from typing import Any

from celery import current_app
from django.core.mail import EmailMessage


def send_task(payload: dict[str, Any]) -> None:
    """Publish the Celery task `payload["name"]` with `args` to `queue`.

    By name only, so that no web process imports task code. The relay repeats what fails, so the publisher itself tries
    once. Raises whatever the broker's client raises.
    """
    current_app.send_task(
        payload["name"],
        args=payload.get("args", []),
        queue=payload["queue"],
        retry=False,
        ignore_result=True,
    )


def send_mail(payload: dict[str, Any]) -> None:
    """Send `payload["subject"]` and `payload["body"]` (plain text) to `payload["to"]` (an address or a list)."""
    to = payload["to"]
    EmailMessage(
        subject=" ".join(payload["subject"].split()),
        body=payload["body"],
        to=[to] if isinstance(to, str) else list(to),
    ).send()
