"""What a person wishes for everything about them: be told, hold, limit; and what they write to the operator."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from consent.errors import ConsentError
from consent.portal import restriction
from consent.portal import services as portal
from consent.portal.models import Note, PortalSession
from consent.portal.texts import portal_words
from consent.texts import fill, long_date
from webapp.pages import portal_guard as guard

GPC_SINCE = "2026-11-29"


@require_POST
@guard.for_person
def told(request: HttpRequest, session: PortalSession) -> HttpResponseBase:
    """Be told of each published use (`told=1`), or no more."""
    portal.tell_of_uses(session, request.POST.get("told") == "1")
    return guard.see_other(guard.PATH)


@require_POST
@guard.for_person
def hold(request: HttpRequest, session: PortalSession) -> HttpResponseBase:
    """Put everything on hold (`hold=1`), or lift that."""
    subject = portal.check_whole(session)
    if request.POST.get("hold") == "1":
        restriction.restrict_all(subject)
    else:
        restriction.lift_all(subject)
    return guard.see_other(guard.PATH)


@require_http_methods(["GET", "HEAD", "POST"])
@guard.for_person
def limit(request: HttpRequest, session: PortalSession) -> HttpResponseBase:
    """GET says what happens, POST limits the use of biometric data (`limit=1`) or allows it again."""
    subject = portal.check_whole(session)
    if request.method != "POST":
        return guard.page(request, "limit", session)
    if request.POST.get("limit") == "1":
        restriction.limit_biometrics(subject)
    else:
        restriction.unlimit_biometrics(subject)
    return guard.see_other(guard.PATH)


@require_http_methods(["GET", "HEAD", "POST"])
@guard.for_person
def notes(request: HttpRequest, session: PortalSession) -> HttpResponseBase:
    """The person's notes with their answers, and the form for another; `?about=` names a consent."""
    about = (request.POST.get("about") or request.GET.get("about") or "").replace("\x00", "")
    if about:
        about = portal.consent_of(session, about).pk
    if request.method != "POST":
        return _notes_page(request, session, about)
    try:
        portal.write_note(
            session, kind=request.POST.get("kind", ""), text=request.POST.get("text", ""), consent_id=about
        )
    except ConsentError as error:
        return _notes_page(request, session, about, error=error)
    response = guard.see_other(reverse("pages:portal_notes"))
    response["Location"] += "?sent=1"
    return response


@require_safe
def gpc(request: HttpRequest) -> HttpResponseBase:
    """Says by machine that the Global Privacy Control is honoured here (its section 4: GPC Support Resource)."""
    return JsonResponse({"gpc": True, "lastUpdate": GPC_SINCE})


def _notes_page(
    request: HttpRequest, session: PortalSession, about: str, *, error: ConsentError | None = None
) -> HttpResponseBase:
    text = portal_words(session.locale)
    words = text["notes"]
    errors = {
        field: text["error"].get(code, text["error"]["other"])
        for field, code in (error.fields if error else {}).items()
    }
    problem = text["error"].get(error.code, text["error"]["other"]) if error is not None and not errors else ""
    rows = []
    for note in portal.notes_of(session):
        if note.answered_at is not None:
            head = fill(words["answered"], date=long_date(note.answered_at, session.locale))
        else:
            head = fill(words["open"], date=long_date(note.created_at, session.locale))
        rows.append({"kind": words[note.kind], "head": head, "text": note.text, "answer": note.answer})
    return guard.page(
        request,
        "notes",
        session,
        {
            "notes": rows,
            "kinds": [(kind, words[kind]) for kind in Note.Kind.values],
            "kind": request.POST.get("kind", ""),
            "text": request.POST.get("text", "") if error is not None else "",
            "about": about,
            "errors": errors,
            "problem": problem,
            "sent": request.GET.get("sent") == "1",
            "longest": portal.LONGEST_TEXT,
            "text_hint": fill(words["text_hint"], longest=str(portal.LONGEST_TEXT)),
        },
        status=200 if error is None else error.status,
    )
