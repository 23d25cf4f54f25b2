"""What depicted people wrote to the operator from their portal, to be answered; each look at their words is logged."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from consent.errors import ConsentError
from consent.keys import KeyDestroyedError
from consent.portal import joins as portal_joins
from consent.portal import services as portal
from webapp.console.access import moderator

SHOWN = 50
KINDS = {
    "objection": "Objects to a use of their data (GDPR 21)",
    "rectification": "Something about them is wrong (GDPR 16)",
    "human_review": "Asks for a human decision (GDPR 22)",
    "question": "A question",
}


@require_safe
@never_cache
@login_required
def notes(request: HttpRequest) -> HttpResponse:
    """All notes without an answer, the oldest first."""
    person = moderator(request)
    cards = []
    with transaction.atomic():
        for note in portal.open_notes()[:SHOWN]:
            try:
                text = note.text
            except KeyDestroyedError:
                continue
            portal_joins.audit(note.consent, note.subject, str(person.pk), "note.viewed", "to answer it")
            cards.append({"note": note, "kind": KINDS[note.kind], "text": text})
    context = {"cards": cards, "section": "notes", "longest": portal.LONGEST_TEXT}
    return render(request, "console/notes.html", context)


@require_POST
@login_required
def answer(request: HttpRequest, note_id: str) -> HttpResponse:
    """Answer one note; the person reads it in their portal."""
    person = moderator(request)
    try:
        portal.answer_note(note_id.replace("\x00", ""), text=request.POST.get("text", ""), by=str(person.pk))
    except ConsentError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "The answer was recorded; the person reads it in their portal.")
    return redirect("console:notes")
