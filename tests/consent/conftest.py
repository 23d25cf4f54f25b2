"""Ada (face donor) and Ben (target person) are asked by Cleo of Cleo's Studio."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from django.test import Client
from django.urls import clear_url_caches, include, path
from django.utils import timezone

from consent import previews, services, transitions
from consent.models import Consent
from consent.policy import UseFacts

PHOTO = services.PhotoRef("ast_photo", "a" * 64, 0)
PHOTO_TWO = services.PhotoRef("ast_photo2", "b" * 64, 1)
TARGET = services.TargetRef("ast_target", "c" * 64, 2)
JPEG = b"\xff\xd8\xff\xe0 a small picture \xff\xd9"


@dataclass
class House:
    """What the tests do with the room, through its services."""

    photo = PHOTO
    photo_two = PHOTO_TWO
    target = TARGET
    jpeg = JPEG

    def ask(self, role: str = "face_donor", **changes: Any) -> tuple[Consent, str]:
        return services.request_consent(
            **{
                "organisation_id": "org_cleo",
                "organisation_name": "Cleo's Studio",
                "requested_by": "Cleo Marsh",
                "role": role,
                "name": "Ada Byron" if role == "face_donor" else "Ben Okri",
                "contact": "ada@example.org" if role == "face_donor" else "ben@example.org",
                "purposes": ["personal", "social"],
                "photos": [PHOTO] if role == "face_donor" else [],
                "target": TARGET,
                "livemode": False,
                **changes,
            }
        )

    def answer(self, consent: Consent, **changes: Any) -> Consent:
        notice = services.consent_text(consent, "en")
        return services.give_consent(
            consent,
            **{
                "ticks": {name: True for name, _ in notice.boxes},
                "typed_name": "Ada Byron",
                "confirmed_photos": consent.photo_sha256s,
                "notice_sha256": notice.sha256,
                "user_agent": "Mozilla/5.0 (X11) Gecko Firefox/140.0",
                "ip": "203.0.113.77",
                **changes,
            },
        )

    def given(self, role: str = "face_donor", **changes: Any) -> Consent:
        return self.answer(self.ask(role, **changes)[0])

    def in_state(self, state: str) -> Consent:
        """A consent brought into `state` by the services alone."""
        consent, _ = self.ask(contact="")
        later = timezone.now() + timedelta(days=400)
        if state == "viewed":
            services.view_consent(consent)
        elif state == "refused":
            services.refuse_consent(consent)
        elif state == "lapsed":
            services.expire_due(later)
        elif state != "requested":
            self.answer(consent)
        if state == "withdrawn":
            services.withdraw_consent(consent)
        elif state == "revoked":
            services.revoke_consent(consent, reason="fraud")
        elif state == "expired":
            services.expire_due(later)
        elif state == "exhausted":
            assert services.reserve_use(consent.id, job_id="job_1", use=self.use()).ok
            services.count_use(consent.id, "job_1")
        elif state == "superseded":
            consent = self.given(contact="again@example.org")
            self.given(contact="again@example.org", replaces=consent.id)
        consent.refresh_from_db()
        assert consent.state == state
        return consent

    def use(self, **changes: Any) -> UseFacts:
        use = UseFacts(
            role="face_donor",
            purpose="personal",
            photo_sha256s=frozenset({PHOTO.sha256}),
            target_sha256=TARGET.sha256,
            target_face=TARGET.face,
            organisation_id="org_cleo",
            seconds=None,
            at=timezone.now(),
        )
        return replace(use, **changes)


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def effects() -> Iterator[list[tuple[str, str, str]]]:
    """Records every effect call; only what the test registers is registered."""
    before = list(transitions._effects)
    seen: list[tuple[str, str, str]] = []
    services.register_effect(lambda consent, old, new: seen.append((consent.id, old, new)))
    yield seen
    transitions._effects[:] = before


@pytest.fixture
def pictures() -> Iterator[Callable[[Callable[[str, int], bytes]], None]]:
    """Registers the preview function of a test, and takes it back."""
    before = dict(previews._registered)
    services.register_preview(lambda asset_id, face: JPEG)
    yield services.register_preview
    previews._registered.clear()
    previews._registered.update(before)


@pytest.fixture
def client(settings: Any, pictures: Any) -> Client:
    """A browser in front of the room's own addresses, as strict about CSRF as in production."""
    module = ModuleType("consent_addresses")
    module.urlpatterns = [path("c/", include("consent.urls"))]  # type: ignore[attr-defined]
    sys.modules["consent_addresses"] = module
    settings.ROOT_URLCONF = "consent_addresses"
    clear_url_caches()
    return Client(enforce_csrf_checks=True)
