"""The pages of an account: upload, permission, job, result."""

from __future__ import annotations

from django.apps import AppConfig


class PagesConfig(AppConfig):
    """Server-rendered pages; no models."""

    name = "webapp.pages"
    label = "pages"
