"""Jobs: connects this app to consent (effects, preview pictures) and to Celery at start-up."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from django.apps import AppConfig
from django.conf import settings


class JobsConfig(AppConfig):
    """`consent` knows nothing of jobs; what a consent's change means for them is registered here."""

    name = "webapp.jobs"
    label = "jobs"

    def ready(self) -> None:
        # Django writes larger uploads there and does not make the folder; where it cannot be made, the upload says so.
        with suppress(OSError):
            Path(settings.FILE_UPLOAD_TEMP_DIR).mkdir(parents=True, exist_ok=True, mode=0o700)
        import webapp.celery  # noqa: F401 - makes our app the current one, for sending tasks by name
        from consent import services as consent_services
        from consent.challenge import upkeep as challenge_upkeep
        from consent.erasure import register_eraser, register_kept
        from consent.portal.restriction import register_limit_effect, register_restriction_effect
        from webapp.jobs import (
            challenges,
            flow,
            forgetting,
            intake,
            restriction,
            schedule,
            segments,
            services,
            transitions,
            upkeep,
        )

        consent_services.register_effect(services.on_consent_changed, locks=flow.companions_of)
        consent_services.register_preview(intake.screened_preview)
        transitions.register_ended(segments.stop)
        schedule.register()
        register_eraser("jobs", forgetting.forget_person)
        register_kept("jobs", forgetting.kept_here)
        challenges.register()
        upkeep.register_retention(challenge_upkeep.forget_clips, "challenge_clips")
        register_restriction_effect(restriction.stop_jobs)
        register_limit_effect(restriction.erase_inputs)
