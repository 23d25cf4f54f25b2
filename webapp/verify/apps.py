"""The public question: what can be said about this file?"""

from __future__ import annotations

from django.apps import AppConfig


class VerifyConfig(AppConfig):
    """The verify page and its service; no models, nothing is kept."""

    name = "webapp.verify"
    label = "verify"
