"""Screening: the gate's evidence, the reviews that follow from it, and the list of faces that may not be used."""

from __future__ import annotations

from django.apps import AppConfig


class ScreeningConfig(AppConfig):
    name = "webapp.screening"
    label = "screening"

    def ready(self) -> None:
        """What the gate measured goes with the person it is about, and with time."""
        from consent.erasure import register_eraser
        from consent.ledger.sources import Source, register_source
        from consent.portal.restriction import register_limit_effect
        from webapp import retention
        from webapp.jobs import hiding
        from webapp.jobs.upkeep import register_retention
        from webapp.screening import face_list, forgetting, hash_lists, ledgered, stay_down

        register_eraser("screening", forgetting.forget_person)
        retention.register("jobs", forgetting.forget_old, forgetting.forecast)
        hiding.register_hidden(stay_down.enter)
        register_source(Source("screening", ledgered.record_payloads, ledgered.record_ids, ("signals_sha256",)))
        register_source(Source("review", ledgered.review_payloads, ledgered.review_ids, ("reason_sha256",)))
        register_source(Source("review_first", ledgered.first_payloads, ledgered.first_ids, ("reason_sha256",)))
        register_source(Source("appeal", ledgered.appeal_payloads, ledgered.appeal_ids, ("statement_sha256",)))
        register_eraser("face list", face_list.forget_person)
        register_limit_effect(face_list.remove_all)
        register_retention(face_list.upkeep)
        register_retention(hash_lists.upkeep)
