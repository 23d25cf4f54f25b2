"""The audit log: who of the house looked at or did what, when and why. Read-only; the database refuses changes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from consent.keys import KeyStoreError
from consent.ledger.models import AuditRecord, LedgerEntry
from webapp.accounts.models import User
from webapp.console.access import moderator

PER_PAGE = 100


@require_safe
@never_cache
@login_required
def index(request: HttpRequest) -> HttpResponse:
    """Newest first; by operator (address), action, what it was about, and day."""
    moderator(request)
    names = ("actor", "action", "about", "day")
    wanted = {name: request.GET.get(name, "").strip().replace("\x00", "")[:80] for name in names}
    rows = _matching(wanted)
    if before := request.GET.get("before", "").replace("\x00", ""):
        last = get_object_or_404(AuditRecord, pk=before)
        rows = rows.filter(Q(at__lt=last.at) | Q(at=last.at, pk__lt=last.pk))
    found = list(rows[: PER_PAGE + 1])
    context = {
        "section": "audit",
        "wanted": wanted,
        "lines": _lines(found[:PER_PAGE]),
        "more": found[PER_PAGE - 1].pk if len(found) > PER_PAGE else "",
        "actions": AuditRecord.objects.order_by("action").values_list("action", flat=True).distinct(),
    }
    return render(request, "console/audit.html", context)


def _matching(wanted: dict[str, str]) -> QuerySet[AuditRecord]:
    rows = AuditRecord.objects.order_by("-at", "-pk")
    if wanted["actor"]:
        people = User.objects.filter(email__icontains=wanted["actor"]).values_list("pk", flat=True)
        rows = rows.filter(actor_id__in=[wanted["actor"], *(str(pk) for pk in people)])
    if wanted["action"]:
        rows = rows.filter(action=wanted["action"])
    if wanted["about"]:
        rows = rows.filter(subject_ref=wanted["about"])
    if wanted["day"]:
        day = _day(wanted["day"])
        rows = rows.filter(at__date=day) if day else rows.none()
    return rows


def _lines(records: list[AuditRecord]) -> list[dict[str, Any]]:
    people = dict(
        User.objects.filter(pk__in=[each.actor_id for each in records if each.actor_id.isdigit()]).values_list(
            "pk", "email"
        )
    )
    places = dict(
        LedgerEntry.objects.filter(source__in=[f"audit:{each.pk}" for each in records]).values_list("source", "seq")
    )
    return [
        {
            "record": each,
            "actor": people.get(int(each.actor_id), each.actor_id) if each.actor_id.isdigit() else each.actor_id,
            "reason": _reason(each),
            "index": places.get(f"audit:{each.pk}"),
        }
        for each in records
    ]


def _reason(record: AuditRecord) -> str:
    try:
        return record.reason
    except KeyStoreError:
        return "(erased with the person it was about)"


def _day(text: str) -> Any:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.get_current_timezone()).date()
    except ValueError:
        return None
