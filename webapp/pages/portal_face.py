"""The person's own entries in the list "never my face": put one there, take it off."""

from __future__ import annotations

from django.core.files.uploadedfile import UploadedFile
from django.http import Http404, HttpRequest, HttpResponseBase
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from consent.errors import ConsentError
from consent.portal import services as portal
from consent.portal.models import PortalSession
from consent.portal.texts import portal_words
from consent.texts import face_list_text, fill, long_date
from webapp.pages import portal_guard as guard
from webapp.screening import face_list
from webapp.screening.listed import ListedFace


@require_http_methods(["GET", "HEAD", "POST"])
@guard.for_person
def entries(request: HttpRequest, session: PortalSession) -> HttpResponseBase:
    """The entries, and the form for another: a photo and a tick of its own."""
    subject = portal.check_whole(session)
    if request.method != "POST":
        return _page(request, session)
    photo = request.FILES.get("photo")
    try:
        if not isinstance(photo, UploadedFile):
            raise ConsentError("photo_missing", "There was no photo. Nothing was kept; choose one.")
        face_list.enrol(
            subject,
            photo,
            ticks=set(request.POST.getlist("tick")),
            notice_sha256=request.POST.get("notice_sha256", ""),
            locale=session.locale,
        )
    except ConsentError as error:
        return _page(request, session, error=error)
    return guard.see_other(reverse("pages:portal_face"))


@require_POST
@guard.for_person
def remove(request: HttpRequest, session: PortalSession, entry_id: str) -> HttpResponseBase:
    """Take one entry off the list: what was kept of it is destroyed."""
    subject = portal.check_whole(session)
    if not (entry_id.isascii() and entry_id.isprintable()):
        raise Http404
    entry = ListedFace.objects.filter(pk=entry_id, subject=subject).first()
    if entry is None:
        raise ConsentError("not_found", "There is no such entry of yours. Nothing was changed.", status=404)
    face_list.remove(entry)
    return guard.see_other(reverse("pages:portal_face"))


def _page(request: HttpRequest, session: PortalSession, *, error: ConsentError | None = None) -> HttpResponseBase:
    text = portal_words(session.locale)
    words = text["face"]
    rows = [
        {"id": entry.pk, "state": entry.state, "lines": _lines(entry, text, session.locale)}
        for entry in ListedFace.objects.filter(subject=session.subject_id).order_by("created_at", "pk")
    ]
    wishes = portal.wishes_of(session.subject)
    taken = sum(1 for row in rows if row["state"] != ListedFace.State.FAILED)
    closed = words["limited"] if wishes.limited_at is not None else ""
    closed = closed or (words["full"] if taken >= face_list.MOST_ENTRIES else "")
    problem = text["error"].get(error.code, text["error"]["other"]) if error is not None else ""
    return guard.page(
        request,
        "face",
        session,
        {
            "entries": rows,
            "notice": face_list_text(session.locale),
            "closed": closed,
            "problem": problem,
            "code": error.code if error is not None else "",
        },
        status=200 if error is None else error.status,
    )


def _lines(entry: ListedFace, text: dict[str, dict[str, str]], locale: str) -> list[str]:
    words = text["face"]
    if entry.state == ListedFace.State.LISTED and entry.listed_at is not None:
        return [fill(words["listed"], date=long_date(entry.listed_at, locale))]
    if entry.state == ListedFace.State.FAILED:
        why = text["face_failure"]
        return [words["failed"], why.get(entry.failure_code, why["other"])]
    return [words["waiting"]]
