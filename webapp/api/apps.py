"""The REST API of partners, version 1."""

from __future__ import annotations

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """Resources below /v1/."""

    name = "webapp.api"
    label = "api"

    def ready(self) -> None:
        """Tell drf-spectacular of our key scheme and our enumerations, and retention of stored answers."""
        from drf_spectacular.settings import spectacular_settings

        from webapp.api.schema import ENUM_NAMES

        spectacular_settings.apply_patches({"ENUM_NAME_OVERRIDES": ENUM_NAMES})
        from consent.erasure import register_eraser
        from webapp.api import forgetting, idempotency
        from webapp.jobs import upkeep

        upkeep.register_retention(idempotency.forget_old, "api_answers")
        register_eraser("api", forgetting.forget_person)
