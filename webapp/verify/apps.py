"""The public question: what can be said about this file?"""

from __future__ import annotations

from django.apps import AppConfig


class VerifyConfig(AppConfig):
    """The verify page, its API twin, the resolution API, and the answers they keep for a while."""

    name = "webapp.verify"
    label = "verify"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Answers go when their time is over."""
        from webapp.jobs.upkeep import register_retention
        from webapp.verify.kept import forget

        register_retention(forget, "verifications")
