"""Step 3 of a new job: who is asked, what for, and what the account declares. Then the job is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from consent import levels
from consent import services as consents
from consent.models import Attestation, Consent
from consent.names import is_name
from consent.requests import LONGEST_NOTE
from watermark.jurisdictions import WORDS
from webapp.jobs import services as jobs
from webapp.jobs.models import Asset, Job
from webapp.jobs.options import Options
from webapp.pages import links, words
from webapp.pages.access import account, for_account, organisation
from webapp.pages.face_options import FaceAnswers, context_of
from webapp.pages.video_options import VideoAnswers, choices_of
from webapp.pages.wizard import Files, files_of, picked
from webapp.profile import is_live
from worker import model_choice
from worker.model_choice import MESH

LONGEST_NAME = 120
LONGEST_CONTACT = 254
# What a service says of one field, in words for the form.
WHY = {
    "text_invalid": "Write a name of at most 120 characters on one line.",
    "statement_length": "Describe your rights in 20 to 2000 characters.",
    "basis_unknown": "Choose what your right rests on.",
    "tick_required": "This has to be confirmed. If you cannot, the job cannot be made.",
}


@dataclass
class Answers:
    """What the form says, as text, with a message per wrong field."""

    purpose: str = ""
    label_language: str = ""
    jurisdictions: list[str] = field(default_factory=list)
    intended_use: str = ""
    donor_name: str = ""
    donor_contact: str = ""
    donor_relationship: str = ""
    cover: str = "ask"  # ask | rights
    target_name: str = ""
    target_contact: str = ""
    target_relationship: str = ""
    swapper: str = MESH
    enhancer: str = ""
    blur_others: bool = False
    pixel_boost: str = "1"
    live_video: bool = False  # ask for the level L2 where policy does without
    basis: str = ""
    statement: str = ""
    ticks: dict[str, bool] = field(default_factory=dict)
    rights_ticks: dict[str, bool] = field(default_factory=dict)
    video: VideoAnswers = field(default_factory=VideoAnswers)
    face: FaceAnswers = field(default_factory=FaceAnswers)
    errors: dict[str, str] = field(default_factory=dict)


@require_http_methods(["GET", "HEAD", "POST"])
@for_account
def ask(request: HttpRequest) -> HttpResponseBase:
    """The form, and on POST the declaration, the questions to the people, and the job: all of it or nothing."""
    data = request.POST if request.method == "POST" else request.GET
    files = files_of(request, data)
    if not files.complete or any(asset.state != Asset.State.READY for asset in files.all):
        return redirect(f"{reverse('pages:new_check')}?{files.query()}")
    assert files.target is not None
    try:
        target_face = picked(files.target, data.get("target_face"))
        source_faces = [(asset, picked(asset, data.get(f"face_{asset.pk}"))) for asset in files.sources]
    except jobs.JobsError:
        messages.error(request, "A file shows several faces and none was chosen. Nothing was sent; choose one here.")
        return redirect(f"{reverse('pages:new_faces')}?{files.query()}")
    declaration, rights = consents.declaration_text("en"), consents.target_rights_text("en")
    swappers, enhancers = model_choice.ready(settings.OPERATOR_MODELS_DIR)
    answers = Answers()
    if request.method == "POST":
        answers = _read(request.POST, declaration, rights)
        if files.target.kind == "video":
            answers.video = VideoAnswers.read(request.POST)
            answers.errors |= answers.video.errors
        answers.face = FaceAnswers.read(request.POST)
        answers.errors |= answers.face.errors
        if not answers.errors:
            job = _make(request, files.target, target_face, source_faces, answers)
            if job is not None:
                messages.success(request, "The job is made. It starts by itself as soon as everybody has agreed.")
                return redirect("pages:job", job_id=job.pk)
    context = {
        "section": "new",
        "step": 3,
        "files": files,
        "target_face": target_face,
        "source_faces": source_faces,
        "answers": answers,
        "errors": answers.errors,
        "summary": _summary(answers.errors, [*declaration.boxes, *rights.boxes]),
        "declaration": declaration,
        "boxes": _boxes("tick", declaration, answers.ticks, answers.errors),
        "rights": rights,
        "rights_boxes": _boxes("rights", rights, answers.rights_ticks, answers.errors),
        "relationships": list(words.RELATIONSHIPS.items()),
        "purposes": [(code, *texts) for code, texts in words.PURPOSES.items()],
        "languages": [(code, name, WORDS[code]) for code, name in words.LABEL_LANGUAGES.items()],
        "places": [(code, *texts, code in settings.JURISDICTIONS) for code, texts in words.JURISDICTIONS.items()],
        "house_label": " / ".join(Options().notice().lines),
        "video_choices": choices_of(answers.video) if files.target.kind == "video" else [],
        "video_seconds": files.target.media.get("duration"),
        "several_faces": len(files.target.faces) > 1,
        "mesh": MESH,
        "swappers": swappers,
        "enhancers": enhancers,
        "boosts": words.BOOSTS.items(),
        **context_of(answers.face, model_choice.installed(settings.OPERATOR_MODELS_DIR)),
        "bases": consents.rights_bases("en"),
        "back": f"{reverse('pages:new_faces')}?{_query(files, target_face, source_faces)}",
        "link_days": settings.CONSENT_LINK_DAYS,
        "video_is_choice": levels.least(words.PURPOSES, settings.PROFILE).level == "L1",
    }
    return render(request, "pages/new_permission.html", context, status=422 if answers.errors else 200)


def _read(data: QueryDict, declaration: consents.NoticeText, rights: consents.NoticeText) -> Answers:
    """The form's content; whatever is missing is named beside its field, and nothing that was written is lost."""

    def text(name: str) -> str:
        return data.get(name, "").replace("\x00", "").strip()

    answers = Answers(
        purpose=text("purpose"),
        label_language=text("label_language"),
        jurisdictions=[name for name in words.JURISDICTIONS if name in data.getlist("jurisdiction")],
        donor_name=text("donor_name"),
        intended_use=" ".join(text("intended_use").split()),
        donor_contact=text("donor_contact"),
        donor_relationship=text("donor_relationship"),
        cover="rights" if text("cover") == "rights" else "ask",
        target_name=text("target_name"),
        target_contact=text("target_contact"),
        target_relationship=text("target_relationship"),
        swapper=text("swapper") or MESH,
        enhancer=text("enhancer"),
        blur_others="blur_others" in data,
        pixel_boost=text("pixel_boost") or "1",
        live_video="live_video" in data,
        basis=text("basis"),
        statement=text("statement").replace("\r\n", "\n"),
        ticks={name: f"tick_{name}" in data for name, _ in declaration.boxes},
        rights_ticks={name: f"rights_{name}" in data for name, _ in rights.boxes},
    )
    errors = answers.errors  # in the order of the page
    _check_person(errors, "donor", answers.donor_name, answers.donor_contact)
    if answers.cover == "ask":
        _check_person(errors, "target", answers.target_name, answers.target_contact)
    else:
        if answers.basis not in dict(consents.rights_bases("en")):
            errors["basis"] = WHY["basis_unknown"]
        if not 20 <= len(answers.statement) <= 2000:
            errors["statement"] = WHY["statement_length"]
        errors |= {f"rights_{name}": WHY["tick_required"] for name, on in answers.rights_ticks.items() if not on}
    for who in ("donor", "target") if answers.cover == "ask" else ("donor",):
        if getattr(answers, f"{who}_relationship") not in words.RELATIONSHIPS:
            errors[f"{who}_relationship"] = "Choose what the person is to you."
    if len(answers.intended_use) > LONGEST_NOTE:
        errors["intended_use"] = f"Write at most {LONGEST_NOTE} characters."
    if answers.purpose not in words.PURPOSES:
        errors["purpose"] = "Choose what the result is for."
    if answers.label_language not in ("", *words.LABEL_LANGUAGES):
        errors["label_language"] = "Choose one of these languages."
    if answers.pixel_boost not in words.BOOSTS:
        errors["pixel_boost"] = "Choose one of these."
    errors |= {f"tick_{name}": WHY["tick_required"] for name, on in answers.ticks.items() if not on}
    return answers


def _check_person(errors: dict[str, str], who: str, name: str, contact: str) -> None:
    if not is_name(name, longest=LONGEST_NAME):
        errors[f"{who}_name"] = "Write the name the person will recognise as their own."
    if len(contact) > LONGEST_CONTACT or not contact.isprintable():
        errors[f"{who}_contact"] = "This is too long for an address or a number."


def _make(
    request: HttpRequest, target: Asset, target_face: int, sources: list[tuple[Asset, int]], answers: Answers
) -> Job | None:
    """Declaration, questions and job in one transaction; None with the reason in `answers.errors` if refused."""
    scene = consents.TargetRef(target.pk, target.sha256, target_face)
    photos = [consents.PhotoRef(asset.pk, asset.sha256, face) for asset, face in sources]
    tokens: dict[str, str] = {}
    step = "declaration"

    def question(role: str, name: str, contact: str, relationship: str, pictures: list[consents.PhotoRef]) -> Consent:
        consent, token = _request(
            request,
            role=role,
            name=name,
            contact=contact,
            photos=pictures,
            scene=scene,
            purpose=answers.purpose,
            scope=consents.Scope(intended_use=answers.intended_use, relationship=relationship),
            assurance="L2" if answers.live_video else "",
        )
        tokens[consent.pk] = token
        return consent

    try:
        with transaction.atomic():
            declaration = consents.attest_declaration(
                organisation_id=organisation(request).pk,
                made_by=str(account(request).pk),
                ticks=answers.ticks,
                locale="en",
            )
            step = "donor"
            donor = question(
                "face_donor", answers.donor_name, answers.donor_contact, answers.donor_relationship, photos
            )
            step = "target"
            replaced: Consent | None = None
            attestation: Attestation | None = None
            if answers.cover == "ask":
                replaced = question(
                    "target_person", answers.target_name, answers.target_contact, answers.target_relationship, []
                )
            else:
                attestation = consents.attest_target_rights(
                    organisation_id=organisation(request).pk,
                    made_by=str(account(request).pk),
                    basis=answers.basis,
                    statement=answers.statement,
                    ticks=answers.rights_ticks,
                    target_sha256=target.sha256,
                    locale="en",
                )
            step = "job"
            job = jobs.submit_job(
                organisation(request),
                account(request),
                target=target,
                target_face=target_face,
                sources=sources,
                donor_consent=donor,
                target_consent=replaced,
                target_attestation=attestation,
                declaration=declaration,
                purpose=answers.purpose,
                options={
                    "label_language": answers.label_language,
                    "jurisdictions": answers.jurisdictions,
                    **answers.video.options(),
                    "others": "blur" if answers.blur_others else "keep",
                    **_models(answers),
                },
                livemode=is_live(),
            )
            links.keep(request, job.pk, tokens)
    except consents.ConsentError as error:
        _explain(answers, step, error)
        return None
    except jobs.JobsError as error:
        answers.errors["form"] = error.message
        return None
    return job


def _models(answers: Answers) -> dict[str, Any]:
    """How the face is made, as `webapp.jobs.options` takes it: the built-in way has no choices but the size."""
    if answers.swapper == MESH:
        return answers.face.options(neural=False)
    return {
        "swapper": answers.swapper,
        "enhancer": answers.enhancer,
        "pixel_boost": int(answers.pixel_boost),
        **answers.face.options(neural=True),
    }


def _request(
    request: HttpRequest,
    *,
    role: str,
    name: str,
    contact: str,
    photos: list[consents.PhotoRef],
    scene: consents.TargetRef,
    purpose: str,
    scope: consents.Scope,
    assurance: str,
) -> tuple[Consent, str]:
    """Ask one person."""
    owner = organisation(request)
    return jobs.request_consent(
        organisation_id=owner.pk,
        organisation_name=owner.name,
        requested_by=account(request).get_full_name() or account(request).email,
        role=role,
        name=name,
        contact=contact,
        locale="en",
        purposes=[purpose],
        photos=photos,
        target=scene,
        max_outputs=1,
        days=90,
        livemode=is_live(),
        scope=scope,
        assurance=assurance,
    )


def _explain(answers: Answers, step: str, error: consents.ConsentError) -> None:
    """Put a service's refusal beside the field it speaks of."""
    if step == "donor" or (step == "target" and answers.cover == "ask"):
        named = {"name": f"{step}_name", "contact": f"{step}_contact"}
        place = next((named[name] for name in error.fields if name in named), "")
        if not place and error.code in {"contact_invalid", "asking_blocked", "asked_too_often"}:
            place = f"{step}_contact"
        answers.errors[place or "form"] = error.message
        return
    answers.errors["form"] = error.message


FIELDS = {
    "donor_name": "Name of the person whose face is put in",
    "donor_contact": "Address of the person whose face is put in",
    "target_name": "Name of the person whose face is replaced",
    "target_contact": "Address of the person whose face is replaced",
    "basis": "What the right rests on",
    "statement": "Your statement",
    "donor_relationship": "What the person whose face is put in is to you",
    "target_relationship": "What the person whose face is replaced is to you",
    "purpose": "What the result is for",
    "intended_use": "What the result is for, in your words",
    "label_language": "Language of the label",
    "pixel_boost": "How finely the face is made",
    "mask_areas": "Areas of the face",
    "mask_regions": "Parts of the face",
    "mask_blur": "Edge of the face",
    "mask_padding": "Left out at the edges",
    "enhancer_blend": "How much of what was sharpened shows",
    "upscaler": "What makes the result larger",
}


def _summary(errors: dict[str, str], boxes: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """(field, words) for the list above the form: each line says which field it leads to."""
    labels = {f"{prefix}_{name}": f"Confirm: {label}" for prefix in ("tick", "rights") for name, label in boxes}
    lines = []
    for name, why in errors.items():
        if name in labels:
            lines.append((name, labels[name]))
        else:
            lines.append((name, f"{FIELDS[name]}: {why}" if name in FIELDS else why))
    return lines


def _boxes(
    prefix: str, text: consents.NoticeText, ticks: dict[str, bool], errors: dict[str, str]
) -> list[dict[str, Any]]:
    """The boxes of a text for the form; unticked until the person ticks them."""
    return [
        {
            "name": f"{prefix}_{name}",
            "label": label,
            "on": ticks.get(name, False),
            "error": errors.get(f"{prefix}_{name}", ""),
        }
        for name, label in text.boxes
    ]


def _query(files: Files, target_face: int, sources: list[tuple[Asset, int]]) -> str:
    faces = urlencode([("target_face", target_face), *((f"face_{asset.pk}", face) for asset, face in sources)])
    return f"{files.query()}&{faces}"
