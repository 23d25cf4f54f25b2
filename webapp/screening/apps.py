"""Screening: the gate's evidence and the reviews that follow from it."""

from __future__ import annotations

from django.apps import AppConfig


class ScreeningConfig(AppConfig):
    name = "webapp.screening"
    label = "screening"

    def ready(self) -> None:
        from consent.ledger.sources import Source, register_source
        from webapp.screening import ledgered

        register_source(Source("screening", ledgered.record_payloads, ledgered.record_ids))
        register_source(Source("review", ledgered.review_payloads, ledgered.review_ids))
