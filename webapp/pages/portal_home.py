"""The portal's overview and the page of one permission: what was asked, what was made, and how to stop it."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from consent import services
from consent.errors import ConsentError
from consent.models import Consent
from consent.portal import joins as portal_joins
from consent.portal import restriction
from consent.portal import services as portal
from consent.portal.models import PortalSession, Wishes
from consent.portal.texts import portal_words
from consent.texts import fill, long_date
from webapp.jobs import services as jobs
from webapp.pages import portal_guard as guard
from webapp.pages.delivery import send_file
from webapp.pages.portal_works import Work, output_of, works_of

GPC = "Sec-GPC"  # the Global Privacy Control of a browser


@require_safe
@guard.for_person
def home(request: HttpRequest, session: PortalSession) -> HttpResponseBase:
    """Every consent, the wishes, and the ways to everything else."""
    locale = session.locale
    text = portal_words(locale)
    consents = list(portal.consents_of(session))
    works = works_of(consents)
    held = portal.on_hold(session)
    wishes = portal.wishes_of(session.subject)
    cards = [
        {
            "id": consent.pk,
            "asked_by": fill(text["home"]["asked_by"], organisation=consent.organisation_name),
            "role": text["role"][consent.role],
            "state": text["state"][consent.state],
            "until": fill(text["home"]["until"], until=long_date(consent.valid_until, locale)),
            "ends": consent.state in portal.HOLDABLE,
            "works": fill(text["home"]["works"], count=str(_published(works[consent.pk]))),
            "on_hold": consent.pk in held,
        }
        for consent in consents
    ]
    return guard.page(
        request,
        "home",
        session,
        {
            "cards": cards,
            "wishes": wishes,
            "hold_is": _since(text["wishes"]["hold_is"], wishes.restricted_at, locale),
            "limit_is": _since(text["wishes"]["limit_is"], wishes.limited_at, locale),
            "can_be_mailed": portal.can_be_mailed(session.subject),
            "gpc": request.headers.get(GPC) == "1",
        },
    )


@require_safe
@guard.for_person
def consent(request: HttpRequest, session: PortalSession, consent_id: str) -> HttpResponseBase:
    """One permission and everything made with it."""
    record = portal.consent_of(session, consent_id)
    locale = session.locale
    text = portal_words(locale)
    words = text["consent"]
    facts = [
        (words["who"], record.organisation_name),
        (words["role"], text["role"][record.role]),
        (words["what"], ", ".join(text["purpose"].get(each, each) for each in record.purposes)),
        (words["use"], record.intended_use),
        (words["partners"], ", ".join(record.partners)),
        (words["state"], text["state"][record.state]),
        (words["until"], long_date(record.valid_until, locale)),
        (words["allowed"], str(record.max_outputs)),
        (words["asked_on"], long_date(record.created_at, locale)),
    ]
    if record.given_at is not None:
        facts.append((words["given_on"], long_date(record.given_at, locale)))
        facts.append((words["level"], text["level"].get(record.assurance, record.assurance)))
    wishes = portal.wishes_of(session.subject)
    works = works_of([record])[record.pk]
    looks = portal_joins.looks_at(record)
    given = record.given_at is not None
    return guard.page(
        request,
        "consent",
        session,
        {
            "consent": record,
            "facts": [(name, value) for name, value in facts if value],
            "works": [_work(work, text, locale) for work in works],
            "held": record.pk in portal.on_hold(session),
            "held_all": _held(wishes),
            "holdable": record.state in portal.HOLDABLE,
            "withdrawable": record.state in portal.WITHDRAWABLE,
            "unanswered": record.state in portal.UNANSWERED,
            "receipt": _receipt_state(record) if given else "",
            "looks": _looks(looks, text["looks"], locale),
        },
    )


@require_safe
@guard.for_person
def receipt(request: HttpRequest, session: PortalSession, consent_id: str) -> HttpResponseBase:
    """The receipt of one permission as a file; any JWS library checks it against /.well-known/jwks.json."""
    record = portal.consent_of(session, consent_id)
    found = portal_joins.receipt_of(record)
    if found is None:
        raise Http404
    response = HttpResponse(found, content_type="application/jwt")
    response["Content-Disposition"] = f'attachment; filename="receipt-{record.pk}.jwt"'
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@guard.for_person
def withdraw(request: HttpRequest, session: PortalSession, consent_id: str) -> HttpResponseBase:
    """GET asks once more, POST withdraws; the same effect as on the link."""
    record = portal.consent_of(session, consent_id)
    if record.state not in portal.WITHDRAWABLE:
        return _to_consent(record)
    if request.method == "POST":
        try:
            services.withdraw_consent(record)
        except ConsentError:
            record.refresh_from_db()
            if record.state in portal.WITHDRAWABLE:
                raise
        return _to_consent(record)
    text = portal_words(session.locale)["withdraw"]
    explanation = fill(text["text"], organisation=record.organisation_name)
    return guard.page(request, "withdraw", session, {"consent": record, "explanation": explanation})


@require_POST
@guard.for_person
def hold(request: HttpRequest, session: PortalSession, consent_id: str) -> HttpResponseBase:
    """Put one permission on hold (`hold=1`), or lift that."""
    record = portal.consent_of(session, consent_id)
    if request.POST.get("hold") != "1":
        restriction.lift_consent(record)
    elif record.state in portal.HOLDABLE:
        restriction.restrict_consent(record)
    return _to_consent(record)


@require_safe
@guard.for_person
def work_file(request: HttpRequest, session: PortalSession, job_id: str) -> HttpResponseBase:
    """A result with the person's face, for themselves, as long as it is kept."""
    if not (job_id.isascii() and job_id.isprintable()):
        raise Http404
    found = output_of(portal.consents_of(session), job_id)
    if found is None:
        raise Http404
    try:
        file = jobs.output_file(found)
    except jobs.JobsError:
        raise Http404 from None
    return send_file(request, file, size=found.size, mime=found.mime, name="result", download=False, etag=found.sha256)


def _to_consent(record: Consent) -> HttpResponseBase:
    return guard.see_other(reverse("pages:portal_consent", args=[record.pk]))


def _published(works: list[Work]) -> int:
    return sum(1 for work in works if work.output_id)


def _held(wishes: Wishes) -> bool:
    return wishes.restricted_at is not None or wishes.limited_at is not None


def _since(text: str, moment: Any, locale: str) -> str:
    return fill(text, date=long_date(moment, locale)) if moment is not None else ""


def _receipt_state(record: Consent) -> str:
    return "ready" if portal_joins.receipt_of(record) is not None else "soon"


def _looks(looks: portal_joins.Looks, text: dict[str, str], locale: str) -> str:
    """A sentence on the operator's looks."""
    if looks.last is None:
        return text["none"]
    last = long_date(looks.last, locale)
    return fill(text["once"], date=last) if looks.count == 1 else fill(text["times"], count=str(looks.count), date=last)


def _work(work: Work, text: dict[str, Any], locale: str) -> dict[str, Any]:
    words = text["works"]
    lines = [fill(words["purpose"], purpose=text["purpose"].get(work.purpose, work.purpose))]
    if work.published_at is not None:
        lines.append(fill(words["published"], date=long_date(work.published_at, locale)))
    else:
        lines.append(fill(words["started"], date=long_date(work.created_at, locale)))
    lines.append(fill(words["by"], organisation=work.organisation))
    if work.ended:
        lines.append(words[work.ended])
    elif work.expires_at is not None:
        lines.append(fill(words["expires"], date=long_date(work.expires_at, locale)))
    return {"work": work, "state": text["job"][work.state], "lines": lines}
