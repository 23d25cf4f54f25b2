"""Ada and Ben, each with what is theirs, and the browser of a depicted person."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from consent.models import Consent, Subject
from consent.portal import access as portal_access
from consent.portal.models import PortalSession
from tests.webapp import cast
from webapp.jobs.models import Job, Output
from webapp.outbox import services as outbox
from webapp.pages.portal_guard import COOKIE

ADA, BEN = "ada@example.org", "ben@example.org"
LINK = re.compile(r"/me/in/[\w-]+")


@dataclass
class Person:
    """A depicted person, what they consented to, and their browser."""

    contact: str
    consent: Consent
    job: Job
    browser: Client = field(default_factory=Client)

    @property
    def subject(self) -> Subject:
        return self.consent.subject

    def enter(self) -> None:
        """By a link in a mail, as anybody."""
        outbox.relay()
        mail.outbox.clear()
        ask(self.browser, self.contact)
        assert len(mail.outbox) == 1
        found = LINK.search(mail.outbox[0].body)
        assert found is not None
        assert self.browser.post(found[0]).status_code == 303
        assert self.browser.cookies[COOKIE].value

    @property
    def session(self) -> PortalSession:
        found = portal_access.session_of(self.browser.cookies[COOKIE].value)
        assert found is not None
        return found


def plain(page: bytes) -> bytes:
    """A page without its CSRF tokens, which are drawn anew each time."""
    return re.sub(rb'name="csrfmiddlewaretoken" value="\w+"', b"", page)


def ask(browser: Client, contact: str) -> Any:
    """Type an address at the door, and let the outbox deliver what came of it."""
    response = browser.post("/me/ask", {"email": contact})
    outbox.relay()
    return response


@pytest.fixture
def made(stage: Any) -> tuple[Job, Output]:
    """A published job of Ada's face in Ben's picture."""
    source, target = stage.ready("source"), stage.ready("target", media={"width": 512, "height": 512})
    donor = stage.ask("face_donor", source, contact=ADA, name="Ada Byron", max_outputs=3)
    replaced = stage.ask("target_person", target, contact=BEN, name="Ben Okri", max_outputs=3)
    job = stage.submit(source=source, target=target, donor_consent=donor, target_consent=replaced)
    job = stage.run(stage.screened(job))
    output = stage.publish(job)
    job.refresh_from_db()
    mail.outbox.clear()
    outbox.relay()
    mail.outbox.clear()
    return job, output


@pytest.fixture
def ada(made: tuple[Job, Output]) -> Person:
    return Person(ADA, cast.donor(made[0]), made[0])


@pytest.fixture
def ben(made: tuple[Job, Output]) -> Person:
    return Person(BEN, cast.replaced(made[0]), made[0])
