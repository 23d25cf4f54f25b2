"""The pages of an account: upload, permission, job, result."""

from __future__ import annotations

from django.apps import AppConfig


class PagesConfig(AppConfig):
    """Server-rendered pages; no models."""

    name = "webapp.pages"
    label = "pages"

    def ready(self) -> None:
        from consent.portal.access import forget_old
        from webapp.jobs.upkeep import register_retention

        register_retention(forget_old)
