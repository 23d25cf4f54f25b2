"""Screening: the gate's evidence and the reviews that follow from it."""

from __future__ import annotations

from django.apps import AppConfig


class ScreeningConfig(AppConfig):
    name = "webapp.screening"
    label = "screening"

    def ready(self) -> None:
        from webapp.jobs import hiding
        from webapp.screening import stay_down

        hiding.register_hidden(stay_down.enter)
