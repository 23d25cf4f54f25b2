"""Consents for operators: found without names; opened with a reason, which is logged; exported; revoked."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from consent import keys, ledger, previews
from consent import services as consents
from consent.keys import KeyDestroyedError, KeyStoreError
from consent.models import Consent
from consent.receipts import services as receipts
from consent.receipts.body import scope_of
from consent.receipts.evidence import evidence_pack, in_lines
from webapp.console import looks
from webapp.console.access import moderator
from webapp.console.words import scope_rows, state_tone

PER_PAGE = 50
REVOKABLE = ("given", "exhausted", "expired", "superseded")
REVOCATIONS = (
    ("court_order", "A court or an authority orders it"),
    ("fraud", "It was obtained or given by fraud"),
    ("wrong_person", "Somebody else answered than was shown"),
    ("minor", "The person is not an adult"),
    ("terms", "It was used against the terms"),
)


@require_safe
@never_cache
@login_required
def index(request: HttpRequest) -> HttpResponse:
    """All consents, newest first; by id, state or organisation. No person is named here."""
    moderator(request)
    wanted = {
        name: request.GET.get(name, "").strip().replace("\x00", "")[:80] for name in ("q", "state", "organisation")
    }
    rows = _matching(wanted)
    if before := request.GET.get("before", "").replace("\x00", ""):
        last = get_object_or_404(Consent, pk=before)
        rows = rows.filter(Q(created_at__lt=last.created_at) | Q(created_at=last.created_at, pk__lt=last.pk))
    found = list(rows[: PER_PAGE + 1])
    context = {
        "section": "consents",
        "rows": [(consent, state_tone(consent.state)) for consent in found[:PER_PAGE]],
        "states": Consent.State.values,
        "wanted": wanted,
        "more": found[PER_PAGE - 1].pk if len(found) > PER_PAGE else "",
    }
    return render(request, "console/consents.html", context)


@require_safe
@never_cache
@login_required
def detail(request: HttpRequest, consent_id: str) -> HttpResponse:
    """One consent: what names nobody, and after a reason was given everything."""
    moderator(request)
    return _detail(request, _consent(consent_id))


@require_POST
@login_required
def look(request: HttpRequest, consent_id: str) -> HttpResponse:
    """A reason is given: it is logged, then the record is shown."""
    user, consent = moderator(request), _consent(consent_id)
    try:
        _open(request, consent, user, looks.reason_of(request))
    except looks.ReasonMissingError as error:
        return _detail(request, consent, problem=error.message, status=422)
    return redirect("console:consent", consent.pk)


@require_safe
@never_cache
@login_required
def picture(request: HttpRequest, consent_id: str, kind: str, index: str) -> HttpResponse:
    """A preview of what the person was shown: a photo or a target, by its number."""
    moderator(request)
    consent = _consent(consent_id)
    if not looks.may_look(request, consent.pk):
        raise Http404
    try:
        data = previews.target(consent, int(index)) if kind == "target" else previews.photo(consent, int(index))
    except previews.PreviewMissingError:
        raise Http404 from None
    return HttpResponse(data, content_type="image/jpeg")


@require_POST
@login_required
def evidence(request: HttpRequest, consent_id: str) -> HttpResponse:
    """The evidence pack, as a ZIP; logged like a look."""
    user, consent = moderator(request), _consent(consent_id)
    if not looks.may_look(request, consent.pk):
        return _detail(request, consent, problem=looks.ReasonMissingError.message, status=403)
    try:
        pack = evidence_pack(consent, at=timezone.now())
    except KeyDestroyedError:
        return _detail(
            request, consent, problem="The person's data was erased. There is nothing left to export.", status=410
        )
    except (KeyStoreError, ledger.LedgerError) as error:
        return _detail(request, consent, problem=error.message, status=503)
    ledger.audit(str(user.pk), "consent.exported", consent.pk, "evidence pack", key_id=consent.key_id)
    response = HttpResponse(pack, content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="evidence-{consent.pk}.zip"'
    return response


@require_POST
@login_required
def revoke(request: HttpRequest, consent_id: str) -> HttpResponse:
    """End a permission in the operator's name, with a reason code; final."""
    user, consent = moderator(request), _consent(consent_id)
    code = request.POST.get("code", "")
    if not looks.may_look(request, consent.pk):
        return _detail(request, consent, problem=looks.ReasonMissingError.message, status=403)
    if code not in dict(REVOCATIONS) or "sure" not in request.POST:
        problem = "Choose why, and tick that it is final. Nothing was changed."
        return _detail(request, consent, problem=problem, status=422)
    try:
        consents.revoke_consent(consent, reason=code)
    except consents.ConsentError as error:
        consent.refresh_from_db()
        return _detail(request, consent, problem=error.message, status=error.status)
    ledger.audit(str(user.pk), "consent.revoked", consent.pk, code, key_id=_living_key(consent))
    messages.success(request, "The permission was revoked. Jobs stop, results are hidden.")
    return redirect("console:consent", consent.pk)


def _matching(wanted: dict[str, str]) -> QuerySet[Consent]:
    rows = Consent.objects.order_by("-created_at", "-pk")
    if wanted["q"]:
        rows = rows.filter(
            Q(pk__startswith=wanted["q"]) | Q(subject_id=wanted["q"]) | Q(uses__job_id=wanted["q"])
        ).distinct()
    if wanted["state"]:
        rows = rows.filter(state=wanted["state"])
    if wanted["organisation"]:
        name = wanted["organisation"]
        rows = rows.filter(Q(organisation_id=name) | Q(organisation_name__icontains=name))
    return rows


def _open(request: HttpRequest, consent: Consent, user: Any, reason: str) -> None:
    looks.open_look(
        request,
        user,
        consent.pk,
        action="consent.viewed",
        about=[consent.pk],
        reason=reason,
        key_id=_living_key(consent),
    )


def _living_key(consent: Consent) -> str:
    """The person's key, so that the operator's words about them are erased with them; the house's, once it is gone."""
    try:
        keys.data_key(consent.key_id)
    except KeyDestroyedError:
        return ""
    return consent.key_id


def _detail(request: HttpRequest, consent: Consent, *, problem: str = "", status: int = 200) -> HttpResponse:
    shown = looks.may_look(request, consent.pk)
    context: dict[str, Any] = {
        "section": "consents",
        "consent": consent,
        "tone": state_tone(consent.state),
        "problem": problem,
        "shown": shown,
        "reasons": looks.REASONS,
        "longest": looks.LONGEST,
        "look_address": "console:consent_look",
    }
    if shown:
        context |= _everything(request, consent)
    return render(request, "console/consent.html", context, status=status)


def _everything(request: HttpRequest, consent: Consent) -> dict[str, Any]:
    places = dict(consent.events.filter(ledger_entry__seq__isnull=False).values_list("pk", "ledger_entry__seq"))
    found: dict[str, Any] = {
        "minutes": looks.minutes_left(request, consent.pk),
        "scope": scope_rows(scope_of(consent)) if consent.valid_from else [],
        "events": [(event, places.get(event.pk)) for event in consent.events.order_by("-id")],
        "uses": consent.uses.order_by("-changed_at"),
        "ticks": sorted(consent.ticks.items()),
        "evidence": [(name, in_lines(value)) for name, value in sorted(consent.evidence.items())],
        "receipt": receipts.receipt_row(consent),
        "photos": range(len(consent.photos)),
        "targets": range(len(consent.targets)),
        "revokable": consent.state in REVOKABLE,
        "revocations": REVOCATIONS,
        "erased": consent.subject.erased_at is not None,
    }
    try:
        found |= {
            "name": consent.name,
            "contact": consent.subject.contact,
            "asker": consent.requested_by_name,
            "note": consent.note,
            "typed_name": consent.typed_name,
            "notice_text": consent.notice_text,
        }
    except KeyDestroyedError:
        found["erased"] = True
    return found


def _consent(consent_id: str) -> Consent:
    if "\x00" in consent_id:
        raise Http404
    return get_object_or_404(Consent.objects.select_related("subject"), pk=consent_id)
