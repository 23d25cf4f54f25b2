"""Screening: the gate's evidence and the reviews that follow from it."""

from __future__ import annotations

from django.apps import AppConfig


class ScreeningConfig(AppConfig):
    name = "webapp.screening"
    label = "screening"

    def ready(self) -> None:
        """What the gate measured goes with the person it is about, and with time."""
        from consent.erasure import register_eraser
        from consent.ledger.sources import Source, register_source
        from webapp import retention
        from webapp.jobs import hiding
        from webapp.screening import forgetting, ledgered, stay_down

        register_eraser("screening", forgetting.forget_person)
        retention.register("jobs", forgetting.forget_old, forgetting.forecast)
        hiding.register_hidden(stay_down.enter)
        register_source(Source("screening", ledgered.record_payloads, ledgered.record_ids))
        register_source(Source("review", ledgered.review_payloads, ledgered.review_ids))
