"""The account's jobs: the list, one job, its progress, its result."""

from __future__ import annotations

import io
from typing import Any

import segno
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from consent import services as consents
from consent.models import Consent
from webapp.console.words import kind
from webapp.jobs import services
from webapp.jobs.models import Asset, Job, Output
from webapp.jobs.running import screening_of
from webapp.pages import appeals, links, words
from webapp.pages.access import for_account, organisation, own_job
from webapp.pages.files import SHOWN_BY_BROWSERS, published
from webapp.screening.reasons import passed
from worker.model_choice import MESH

PER_PAGE = 25
OPEN_CONSENT = ("requested", "viewed")
# Standard deviation of the Laplacian on the aligned face: a sharp portrait has at least SHARP, a blurred one less than
# BLURRED.
SHARP, BLURRED = 12, 6
State = Job.State


@require_safe
@for_account
def index(request: HttpRequest) -> HttpResponse:
    """All jobs of the organisation, newest first, a page at a time (`?before=<job id>`)."""
    rows = Job.objects.of(organisation(request)).select_related("target").prefetch_related("swaps")
    rows = rows.order_by("-created_at", "-pk")
    if after := request.GET.get("before", ""):
        last = own_job(request, after)
        rows = rows.filter(created_at__lte=last.created_at).exclude(pk=last.pk)
    found = list(rows[: PER_PAGE + 1])
    lines = [
        {"job": job, "state": words.job_state(job), "title": title(job), "face": job.swaps.all()[0].target_face}
        for job in found[:PER_PAGE]
    ]
    more = found[PER_PAGE - 1].pk if len(found) > PER_PAGE else ""
    return render(request, "pages/jobs.html", {"lines": lines, "more": more, "first": not after, "section": "jobs"})


@require_safe
@for_account
def detail(request: HttpRequest, job_id: str) -> HttpResponse:
    """One job: who answered, how far it is, what happened."""
    job = own_job(request, job_id)
    people = _people(request, job)
    inputs = job.inputs()
    sources = [asset for asset in inputs if asset != job.target]
    context = {
        "section": "jobs",
        "job": job,
        "title": title(job),
        "state": words.job_state(job),
        "final": job.state in Job.FINAL,
        "working": job.state not in Job.FINAL and job.state not in {State.IN_REVIEW, State.AWAITING_CONSENT},
        "progress": words.progress(job.progress),
        "people": people,
        "failure": words.failure(job),
        "again": job.failure_code not in words.NOT_AGAIN,
        "events": [_event(event) for event in job.events.order_by("-id")],
        "sources": sources,
        "faces": [swap.target_face for swap in job.swaps.all()],
        "attested": [swap.target_face for swap in job.swaps.all() if swap.target_attestation_id],
        "appeals": appeals.offers(job, inputs) if job.failure_code or job.state == State.IN_REVIEW else [],
        "screened": _screened(job),
        "purpose": words.PURPOSES.get(job.purpose, (job.purpose, ""))[0],
        "may_cancel": job.state not in Job.FINAL and job.state != Job.State.FINISHING,
        "links_shown": any(person["link"] for person in people),
        "hidden": words.hidden(published(job)),
    }
    return render(request, "pages/job.html", context)


@require_safe
@for_account
def state(request: HttpRequest, job_id: str) -> JsonResponse:
    """What the open page asks every second. `page` changes whenever the page itself should be loaded anew."""
    job = own_job(request, job_id)
    found = services.job_state(job)
    answers = ",".join(_answer(consent) for consent in job.consents())
    progress = words.progress(job.progress)
    label = words.job_state(job).label
    return JsonResponse({**progress, "label": label, "final": found["final"], "page": f"{job.state}:{answers}"})


@require_POST
@for_account
def cancel(request: HttpRequest, job_id: str) -> HttpResponse:
    """Stop a job."""
    job = own_job(request, job_id)
    try:
        services.cancel_job(job)
    except services.JobsError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "The job is canceled. Nothing was published.")
    return redirect("pages:job", job_id=job.pk)


@require_POST
@for_account
def hide_links(request: HttpRequest, job_id: str) -> HttpResponse:
    """The links were passed on: do not show them any more."""
    job = own_job(request, job_id)
    links.hide(request, job.pk)
    return redirect("pages:job", job_id=job.pk)


@require_safe
@for_account
def link_code(request: HttpRequest, job_id: str, consent_id: str) -> HttpResponse:
    """The QR code of a consent link that this session may still see."""
    token = links.shown(request, own_job(request, job_id).pk).get(consent_id)
    if token is None:
        raise Http404
    picture = io.BytesIO()
    segno.make(consents.link(token), error="m").save(picture, kind="png", scale=6, border=2)
    response = HttpResponse(picture.getvalue(), content_type="image/png")
    response["Cache-Control"] = "no-store"
    return response


@require_safe
@for_account
def result(request: HttpRequest, job_id: str) -> HttpResponse:
    """The result of a job: compare, download, and what stands behind it."""
    job = own_job(request, job_id)
    output = published(job)
    if output is None:
        return redirect("pages:job", job_id=job.pk)
    faces = [swap.target_face for swap in job.swaps.all()]
    quality = [(face, job.quality.get(str(face), {})) for face in faces]
    shown = output.permission == Output.Permission.IN_FORCE and output.erased_at is None
    context = {
        "section": "jobs",
        "job": job,
        "title": title(job),
        "output": output,
        "mark_id": bytes(output.mark_id).hex(),
        "shown": shown,
        "is_video": output.mime.startswith("video/"),
        "before": shown and _has_before(job.target),
        "several": len(faces) > 1,
        "attested": any(swap.target_attestation_id for swap in job.swaps.all()),
        "quality": [(words.face(face), _quality(raw)) for face, raw in quality],
        "warnings": words.warnings([*job.warnings, *(name for _, raw in quality for name in raw.get("warnings", []))]),
        "seconds": sum(value for value in job.timings.values() if isinstance(value, int | float)),
        "size": output.size,
    }
    return render(request, "pages/result.html", context)


@require_POST
@for_account
def copies_deleted(request: HttpRequest, job_id: str) -> HttpResponse:
    """The account says that it deleted its copies of a result whose permission ended."""
    job = own_job(request, job_id)
    output = published(job)
    if output is None:
        return redirect("pages:job", job_id=job.pk)
    try:
        services.confirm_deletion(output)
    except services.JobsError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "Thank you. It is noted with the job.")
    return redirect("pages:result", job_id=job.pk)


def title(job: Job) -> str:
    """How a job is called in a list."""
    return job.target.name or f"{job.target.kind or 'Upload'} {job.target_id[-6:]}"


def _has_before(asset: Asset) -> bool:
    return asset.erased_at is None and asset.mime in SHOWN_BY_BROWSERS


def _people(request: HttpRequest, job: Job) -> list[dict[str, Any]]:
    """Everybody whose permission the job needs, with what they answered and, if it may still be shown, their link."""
    tokens = links.shown(request, job.pk) if job.state not in Job.FINAL else {}
    people = []
    for consent in job.consents():
        token = tokens.get(consent.pk) if consent.state in OPEN_CONSENT else None
        people.append(
            {
                "consent": consent,
                "name": _name(consent),
                "role": _role(job, consent),
                "state": words.consent_state(consent.state, over=job.state in Job.FINAL),
                "open": consent.state in OPEN_CONSENT,
                "link": consents.link(token) if token else "",
                "answer": _answer(consent),
                "assurance": words.assurance(
                    consent.assurance_asked,
                    consent.assurance if consent.given_at else None,
                    consents.check_state(consent) if consent.state in OPEN_CONSENT else None,
                ),
            }
        )
    return people


def _role(job: Job, consent: Consent) -> str:
    """What somebody is in the job; of several replacements also in which."""
    swaps = job.swaps.all()
    if len(swaps) == 1:
        return words.ROLES[consent.role]
    own = [swap for swap in swaps if consent.pk in (swap.donor_consent_id, swap.target_consent_id)]
    return f"{words.ROLES[consent.role]}: {', '.join(words.face(swap.target_face) for swap in own)}"


def _answer(consent: Consent) -> str:
    """Changes whenever the page has something else to say about this person."""
    return f"{consent.state}.{consents.check_state(consent) or ''}"


def _name(consent: Consent) -> str:
    """The name the account wrote; a person who was erased has none any more."""
    from consent.keys import KeyStoreError

    try:
        return consent.name or "Somebody without a name"
    except KeyStoreError:
        return "Somebody who was erased"


def _screened(job: Job) -> list[str]:
    """How the job passed the gate, and what nobody looked for; nothing before that."""
    evidence = screening_of(job)
    if evidence is None:
        return []
    told = passed(evidence.policy_version)
    lines = [f"{told[:1].upper()}{told[1:]}."]
    if evidence.not_screened:
        lines.append(f"Not screened for: {', '.join(kind(code) for code in evidence.not_screened)}.")
    return lines


def _event(event: Any) -> dict[str, Any]:
    """One line of the timeline."""
    moved = event.from_state != event.to_state
    label = words.JOB_STATES[Job.State(event.to_state)].label if event.to_state in Job.State.values else event.to_state
    if event.code == "submitted":
        label = "Submitted"
    return {"at": event.at, "label": label if moved else "Note", "message": event.message}


def _quality(raw: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The measured numbers as (name, value, what it means)."""
    neural = raw.get("swapper", MESH) != MESH
    rows = []
    if (value := _number(raw, "distance_to_source")) is not None:
        means = "the same person" if value <= 0.45 else "close, look at it" if value <= 0.60 else "not close enough"
        means += " (up to 0.60 counts as the same person)"
        if neural:  # another measure, whose limits were not measured on people
            means = "as the chosen model measures it: 0 is the same picture, about 1 a stranger"
        rows.append(("Distance to the source person", f"{value:.2f}", means))
    if (value := _number(raw, "target_source_before")) is not None:
        rows.append(("The same before the change", f"{value:.2f}", "how far apart the two people were"))
    if (value := _number(raw, "yaw_gap")) is not None and not neural:  # a model renders the direction anew
        rows.append(("Difference in direction", f"{abs(value):.0f}°", "between the two faces; above 15° it shows"))
    if (value := _number(raw, "sharpness")) is not None:
        looks = "sharp" if value >= SHARP else "soft" if value >= BLURRED else "blurred"
        means = f"the new face looks {looks} (a sharp portrait has {SHARP} to 40, under {BLURRED} it looks blurred)"
        rows.append(("Sharpness", f"{value:.0f}", means))
    return rows


def _number(raw: dict[str, Any], name: str) -> float | None:
    value = raw.get(name)
    return float(value) if isinstance(value, int | float) else None
