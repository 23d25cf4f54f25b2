"""The house's own people: review."""

from __future__ import annotations

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    """Pages for moderators; no models."""

    name = "webapp.console"
    label = "console"
