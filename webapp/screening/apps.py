"""Screening: the gate's evidence, the reviews that follow from it, and the list of faces that may not be used."""

from __future__ import annotations

from django.apps import AppConfig


class ScreeningConfig(AppConfig):
    name = "webapp.screening"
    label = "screening"

    def ready(self) -> None:
        from consent.restriction import register_limit_effect
        from webapp.jobs.upkeep import register_retention
        from webapp.screening import face_list

        register_limit_effect(face_list.remove_all)
        register_retention(face_list.upkeep)
