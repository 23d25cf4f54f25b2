"""Step 3 of a new job: who is asked, what for, and what the account declares. Then the job is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
from consent.requests import LONGEST_NOTE
from watermark.jurisdictions import WORDS
from webapp.jobs import services as jobs
from webapp.jobs.models import Asset, Job
from webapp.jobs.options import Options
from webapp.pages import links, words
from webapp.pages.access import account, for_account, organisation
from webapp.pages.face_options import FaceAnswers, context_of
from webapp.pages.pairs import (
    WHY,
    Pair,
    PairAnswers,
    PhotosUndecidedError,
    boxes,
    check_pair,
    labels_of,
    pairs_of,
    query_of,
    read_pair,
    section,
)
from webapp.pages.video_options import VideoAnswers, choices_of
from webapp.pages.wizard import files_of
from webapp.profile import is_live
from worker import model_choice
from worker.model_choice import MESH


@dataclass
class Answers:
    """What the form says, as text, with a message per wrong field."""

    purpose: str = ""
    label_language: str = ""
    jurisdictions: list[str] = field(default_factory=list)
    intended_use: str = ""
    pairs: list[PairAnswers] = field(default_factory=list)
    swapper: str = MESH
    enhancer: str = ""
    blur_others: bool = False
    pixel_boost: str = "1"
    live_video: bool = False  # ask for the level L2 where policy does without
    ticks: dict[str, bool] = field(default_factory=dict)
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
        pairs = pairs_of(files, data)
    except PhotosUndecidedError:
        return redirect(f"{reverse('pages:new_pairs')}?{data.urlencode()}")
    except jobs.JobsError as error:
        why = "A file shows several faces and none was chosen."
        messages.error(
            request, f"{error.message if error.code == 'too_many_swaps' else why} Nothing was sent; choose here."
        )
        return redirect(f"{reverse('pages:new_faces')}?{files.query()}")
    declaration, rights = consents.declaration_text("en"), consents.target_rights_text("en")
    there = model_choice.installed(settings.OPERATOR_MODELS_DIR)
    swappers, enhancers = model_choice.ready(there)
    answers = Answers(pairs=[PairAnswers(pair) for pair in pairs])
    if request.method == "POST":
        answers = _read(request.POST, pairs, declaration, rights)
        if files.target.kind == "video":
            answers.video = VideoAnswers.read(request.POST)
            answers.errors |= answers.video.errors
        answers.face = FaceAnswers.read(request.POST)
        answers.errors |= answers.face.errors
        if not answers.errors:
            job = _make(request, files.target, answers)
            if job is not None:
                messages.success(request, "The job is made. It starts by itself as soon as everybody has agreed.")
                return redirect("pages:job", job_id=job.pk)
    context = {
        "section": "new",
        "step": 3,
        "files": files,
        "pairs": pairs,
        "source_faces": {asset: face for pair in pairs for asset, face in pair.sources}.items(),
        "untouched": len(files.target.faces) - len(pairs),
        "sections": [section(each, answers.pairs, answers.errors, rights) for each in answers.pairs],
        "answers": answers,
        "errors": answers.errors,
        "summary": _summary(answers, declaration, rights),
        "declaration": declaration,
        "boxes": boxes("tick", declaration, answers.ticks, answers.errors),
        "rights": rights,
        "relationships": list(words.RELATIONSHIPS.items()),
        "purposes": [(code, *texts) for code, texts in words.PURPOSES.items()],
        "languages": [(code, name, WORDS[code]) for code, name in words.LABEL_LANGUAGES.items()],
        "places": [(code, *texts, code in settings.JURISDICTIONS) for code, texts in words.JURISDICTIONS.items()],
        "house_label": " / ".join(Options().notice().lines),
        "video_choices": choices_of(answers.video) if files.target.kind == "video" else [],
        "video_seconds": files.target.media.get("duration"),
        "mesh": MESH,
        "swappers": swappers,
        "enhancers": enhancers,
        "boosts": words.BOOSTS.items(),
        **context_of(answers.face, there),
        "bases": consents.rights_bases("en"),
        "back": f"{reverse('pages:new_faces')}?{query_of(files, pairs)}",
        "link_days": settings.CONSENT_LINK_DAYS,
        "video_is_choice": levels.least(words.PURPOSES, settings.PROFILE).level == "L1",
    }
    return render(request, "pages/new_permission.html", context, status=422 if answers.errors else 200)


def _read(data: QueryDict, pairs: list[Pair], declaration: consents.NoticeText, rights: consents.NoticeText) -> Answers:
    """The form's content; whatever is missing is named beside its field, and nothing that was written is lost."""

    def text(name: str) -> str:
        return data.get(name, "").replace("\x00", "").strip()

    answers = Answers(
        purpose=text("purpose"),
        label_language=text("label_language"),
        jurisdictions=[name for name in words.JURISDICTIONS if name in data.getlist("jurisdiction")],
        intended_use=" ".join(text("intended_use").split()),
        pairs=[read_pair(pair, text, data, rights) for pair in pairs],
        swapper=text("swapper") or MESH,
        enhancer=text("enhancer"),
        blur_others="blur_others" in data,
        pixel_boost=text("pixel_boost") or "1",
        live_video="live_video" in data,
        ticks={name: f"tick_{name}" in data for name, _ in declaration.boxes},
    )
    errors = answers.errors  # in the order of the page
    for said in answers.pairs:
        errors |= check_pair(said)
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


def _make(request: HttpRequest, target: Asset, answers: Answers) -> Job | None:
    """Declaration, questions and job in one transaction; None with the reason in `answers.errors` if refused."""
    asking = _Asking(request, target, answers)
    try:
        with transaction.atomic():
            declaration = consents.attest_declaration(
                organisation_id=organisation(request).pk,
                made_by=str(account(request).pk),
                ticks=answers.ticks,
                locale="en",
            )
            swaps = [asking.swap(said) for said in answers.pairs]
            asking.place = ""
            job = jobs.submit_job(
                organisation(request),
                account(request),
                target=target,
                swaps=swaps,
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
            links.keep(request, job.pk, asking.tokens)
    except consents.ConsentError as error:
        answers.errors[asking.field_of(error)] = error.message
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


class _Asking:
    """Asks the people of a job, each once, whatever number of pairs they are in.

    `place` names whom the form spoke of last: who (donor or target) and the ending of its fields' names.
    """

    def __init__(self, request: HttpRequest, target: Asset, answers: Answers) -> None:
        self.request, self.target, self.answers = request, target, answers
        self.tokens: dict[str, str] = {}
        self.place = ""
        self._end = ""
        self._donors: dict[int, Consent] = {}
        self._replaced: dict[int, tuple[Consent | None, Attestation | None]] = {}

    def swap(self, said: PairAnswers) -> jobs.SwapWanted:
        """One replacement, with whoever of its two people was not asked yet now asked. Raises ConsentError."""
        pair = said.pair
        if pair.donor not in self._donors:
            self._donors[pair.donor] = self._donor(said)
        if said.same_as is None:
            self._replaced[pair.number] = self._answer_for(said)
        else:
            self._replaced[pair.number] = self._replaced[said.same_as]
        consent, attestation = self._replaced[pair.number]
        return jobs.SwapWanted(pair.target_face, pair.sources, self._donors[pair.donor], consent, attestation)

    def field_of(self, error: consents.ConsentError) -> str:
        """The field that a service's refusal speaks of, or "form"."""
        named = next((name for name in error.fields if name in ("name", "contact")), "")
        if not named and error.code in {"contact_invalid", "asking_blocked", "asked_too_often"}:
            named = "contact"
        return f"{self.place}_{named}{self._end}" if named and self.place else "form"

    def _donor(self, said: PairAnswers) -> Consent:
        """The first of a donor's pairs has their name; the question is about all of them."""
        own = [each.pair for each in self.answers.pairs if each.pair.donor == said.pair.donor]
        # By content: the same file sent twice is one photo of theirs.
        photos = {
            asset.sha256: consents.PhotoRef(asset.pk, asset.sha256, face) for p in own for asset, face in p.sources
        }
        self.place, self._end = "donor", said.pair.suffix
        return self._ask(
            "face_donor",
            name=said.donor_name,
            contact=said.donor_contact,
            relationship=said.donor_relationship,
            photos=list(photos.values()),
            faces=[pair.target_face for pair in own],
        )

    def _answer_for(self, said: PairAnswers) -> tuple[Consent | None, Attestation | None]:
        """Who answers for a replaced person: they themselves, or the account's statement."""
        self.place, self._end = "target", said.pair.suffix
        if said.cover == "ask":
            consent = self._ask(
                "target_person",
                name=said.target_name,
                contact=said.target_contact,
                relationship=said.target_relationship,
                photos=[],
                faces=[each.pair.target_face for each in self._same_person(said)],
            )
            return consent, None
        self.place = ""
        attestation = consents.attest_target_rights(
            organisation_id=organisation(self.request).pk,
            made_by=str(account(self.request).pk),
            basis=said.basis,
            statement=said.statement,
            ticks=said.rights_ticks,
            target_sha256=self.target.sha256,
            locale="en",
        )
        return None, attestation

    def _same_person(self, said: PairAnswers) -> list[PairAnswers]:
        """This pair and all that say, directly or by another, that they replace the same person."""
        same = [said]
        for each in self.answers.pairs:  # a pair names an earlier one only, so one pass finds them all
            if each.same_as in {known.pair.number for known in same}:
                same.append(each)
        return same

    def _ask(
        self,
        role: str,
        *,
        name: str,
        contact: str,
        relationship: str,
        photos: list[consents.PhotoRef],
        faces: list[int],
    ) -> Consent:
        owner, asker = organisation(self.request), account(self.request)
        consent, token = jobs.request_consent(
            organisation_id=owner.pk,
            organisation_name=owner.name,
            requested_by=asker.get_full_name() or asker.email,
            role=role,
            name=name,
            contact=contact,
            locale="en",
            purposes=[self.answers.purpose],
            photos=photos,
            targets=[consents.TargetRef(self.target.pk, self.target.sha256, face) for face in faces],
            max_outputs=1,
            days=90,
            livemode=is_live(),
            scope=consents.Scope(intended_use=self.answers.intended_use, relationship=relationship),
            assurance="L2" if self.answers.live_video else "",
        )
        self.tokens[consent.pk] = token
        return consent


FIELDS = {
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


def _summary(answers: Answers, declaration: consents.NoticeText, rights: consents.NoticeText) -> list[tuple[str, str]]:
    """(field, words) for the list above the form: each line says which field it leads to."""
    labels, fields = {f"tick_{name}": f"Confirm: {label}" for name, label in declaration.boxes}, dict(FIELDS)
    for said in answers.pairs:
        labels |= {f"rights_{name}{said.pair.suffix}": f"Confirm: {label}" for name, label in rights.boxes}
        fields |= labels_of(said.pair, several=len(answers.pairs) > 1)
    lines = []
    for name, why in answers.errors.items():
        if name in labels:
            lines.append((name, labels[name]))
        else:
            lines.append((name, f"{fields[name]}: {why}" if name in fields else why))
    return lines
