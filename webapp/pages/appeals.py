"""The account's appeal against what the gate refused: the offer on other pages, and the page itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from webapp.jobs.models import Asset, Job
from webapp.pages.access import account, for_account, own_asset, own_job
from webapp.screening import appeals
from webapp.screening.models import Review
from webapp.screening.services import ScreeningError

METHODS = ["GET", "HEAD", "POST"]


@dataclass(frozen=True)
class Offer:
    """What a page says about an appeal: where to make it or follow it, or why there is none."""

    url: str
    words: str
    what: str
    possible: bool


def offer(about: Asset | Job, query: str = "") -> Offer | None:
    """None where there is nothing to say. `query` leads back to the page of the new job."""
    kind = "asset" if isinstance(about, Asset) else "job"
    if about.state not in {about.State.REFUSED, about.State.IN_REVIEW}:
        return None
    found = appeals.prospect(about)
    address = reverse(f"pages:appeal_{kind}", args=[about.pk]) + (f"?{query}" if query else "")
    what = (about.name or "this upload") if isinstance(about, Asset) else "this job"
    if found.possible:
        words = "The refusal came from an automatic check. If it is wrong, say why: two people then look at it."
        return Offer(address, words, what, possible=True)
    if found.code == appeals.MADE_BEFORE:
        return Offer(address, "You appealed against the refusal.", what, possible=False)
    if found.evidence is not None and found.evidence.decision == "reject":
        return Offer("", found.message, what, possible=False)
    return None


def offers(job: Job, files: Iterable[Asset]) -> list[Offer]:
    """Of a job and of the files that it was refused for."""
    found = [offer(job), *(offer(each) for each in files if each.erased_at is None)]
    return [each for each in found if each is not None]


@require_http_methods(METHODS)
@for_account
def asset(request: HttpRequest, asset_id: str) -> HttpResponse:
    """Appeal about an upload, and what became of it."""
    return _page(request, own_asset(request, asset_id))


@require_http_methods(METHODS)
@for_account
def job(request: HttpRequest, job_id: str) -> HttpResponse:
    """Appeal about a job, and what became of it."""
    return _page(request, own_job(request, job_id))


def _page(request: HttpRequest, about: Asset | Job) -> HttpResponse:
    problem, statement, status = "", "", 200
    if request.method == "POST":
        statement = request.POST.get("statement", "")
        try:
            appeals.appeal(about, account(request), statement)
        except ScreeningError as error:
            problem, status = error.message, error.status
        else:
            return redirect(request.get_full_path())
    made = appeals.appeal_about(about)
    context = {
        "section": "jobs",
        "about": about,
        "is_job": isinstance(about, Job),
        "title": (about.name or "Upload") if isinstance(about, Asset) else (about.target.name or "Job"),
        "prospect": appeals.prospect(about),
        "refused": about.failure_message,
        "made": made,
        "outcome": _outcome(made) if made is not None else "",
        "problem": problem,
        "statement": statement,
        "shortest": appeals.SHORTEST,
        "longest": appeals.LONGEST,
        "back": _back(request, about),
    }
    return render(request, "pages/appeal.html", context, status=status)


def _outcome(made: Review) -> str:
    """How far an appeal is, as a sentence; who decided is nobody's business but the house's."""
    match made.state:
        case Review.State.RELEASED:
            return "Two people looked at it and let it through."
        case Review.State.REJECTED:
            return f"A person looked at it, and the refusal stands. If you object, {appeals.write_to()}."
    due = made.due_at
    return f"Two people look at it. They should have decided by {due.day} {due:%B %Y, %H:%M} UTC."


def _back(request: HttpRequest, about: Asset | Job) -> str:
    """To the job, or to the check of the new job that the address names."""
    if isinstance(about, Job):
        return reverse("pages:job", args=[about.pk])
    return f"{reverse('pages:new_check')}?{request.GET.urlencode()}" if request.GET else reverse("pages:jobs")
