"""A new job in steps: upload, check, faces, permission.

Between the steps nothing is kept on the server but the uploads themselves; the address carries their ids, so a reload,
a second tab or a break of a day loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from webapp.jobs import services as jobs
from webapp.jobs.models import Asset
from webapp.pages import appeals, words
from webapp.pages.access import account, for_account, organisation, own_asset

MAX_SOURCES = 8  # photos of all donors together
BUSY = (Asset.State.UPLOADED, Asset.State.SCREENING)


@dataclass(frozen=True)
class Files:
    """The uploads of the job being made."""

    sources: tuple[Asset, ...]
    target: Asset | None

    @property
    def all(self) -> tuple[Asset, ...]:
        """Sources first, then the target."""
        return (*self.sources, *([self.target] if self.target else []))

    @property
    def complete(self) -> bool:
        """Is there at least one source, and a target?"""
        return bool(self.sources) and self.target is not None

    def query(self, *, without: Asset | None = None, **more: object) -> str:
        """The address' query that names these files, without one of them if it is to be replaced."""
        pairs = [("source", asset.pk) for asset in self.sources if asset != without]
        if self.target is not None and self.target != without:
            pairs.append(("target", self.target.pk))
        return urlencode([*pairs, *((name, str(value)) for name, value in more.items())])


def files_of(request: HttpRequest, data: QueryDict) -> Files:
    """The uploads that the request names; 404 for any that is not this organisation's, or not of that role."""
    sources = tuple(own_asset(request, pk) for pk in dict.fromkeys(data.getlist("source")[:MAX_SOURCES]) if pk)
    target = own_asset(request, str(data["target"])) if data.get("target") else None
    if any(asset.role != Asset.Role.SOURCE for asset in sources) or (target and target.role != Asset.Role.TARGET):
        raise Http404
    return Files(sources, target)


@require_http_methods(["GET", "HEAD", "POST"])
@for_account
def upload(request: HttpRequest) -> HttpResponseBase:
    """Step 1: the donor's photos and the target."""
    if request.method == "POST":
        return _receive(request)
    files = files_of(request, request.GET)
    return render(
        request,
        "pages/new_upload.html",
        {
            "section": "new",
            "step": 1,
            "files": files,
            "room": MAX_SOURCES - len(files.sources),
            "most": MAX_SOURCES,
            "photo_limit": settings.MAX_PHOTO_BYTES,
            "video_limit": settings.MAX_VIDEO_BYTES,
        },
    )


def _receive(request: HttpRequest) -> HttpResponse:
    """Store what came; what was good is kept even when something else was not."""
    kept = files_of(request, request.POST)
    sources, target = list(kept.sources), kept.target
    photos = [file for file in request.FILES.getlist("sources") if file.name]
    if len(sources) + len(photos) > MAX_SOURCES:
        messages.error(request, f"At most {MAX_SOURCES} source photos; the ones beyond that were not kept.")
    for file in photos[: MAX_SOURCES - len(sources)]:
        if asset := _store(request, file, Asset.Role.SOURCE):
            sources.append(asset)
    scene = request.FILES.get("target_file")
    if scene is not None and (asset := _store(request, scene, Asset.Role.TARGET)):
        target = asset
    files = Files(tuple(sources), target)
    if files.complete:
        address = f"{reverse('pages:new_check')}?{files.query()}"
    else:
        missing = "a photo of the face to put in" if not files.sources else "the photo or video to change"
        messages.error(request, f"There is still {missing} missing. What you sent before is kept.")
        address = f"{reverse('pages:new')}?{files.query()}"
    if request.headers.get("Accept", "").startswith("application/json"):
        return JsonResponse({"location": address})
    return redirect(address)


def _store(request: HttpRequest, file: UploadedFile, role: Asset.Role) -> Asset | None:
    name = file.name or "upload"
    limit = settings.MAX_PHOTO_BYTES if role == Asset.Role.SOURCE else settings.MAX_VIDEO_BYTES
    if file.size is not None and file.size > limit:
        messages.error(request, f"{name}: larger than {limit >> 20} MiB, so it was not kept. Choose a smaller one.")
        return None
    try:
        return jobs.receive_asset(organisation(request), account(request), role=role.value, file=file, name=name)
    except jobs.JobsError as error:
        messages.error(request, f"{name}: {error.message}")
        return None


@require_safe
@for_account
def check(request: HttpRequest) -> HttpResponseBase:
    """Step 2a: wait until the uploads are checked; say plainly what is wrong with one that is not accepted."""
    files = files_of(request, request.GET)
    if not files.complete:
        return redirect(f"{reverse('pages:new')}?{files.query()}")
    status = [_status(files, asset) for asset in files.all]
    ready = all(asset.state == Asset.State.READY for asset in files.all)
    busy = any(asset.state in BUSY for asset in files.all)
    faces = f"{reverse('pages:new_faces')}?{files.query()}"
    if request.headers.get("Accept", "").startswith("application/json"):
        page = ",".join(asset.state for asset in files.all)
        rows = [{"id": each["asset"].pk, "label": each["state"].label, **each["progress"]} for each in status]
        return JsonResponse({"page": page, "files": rows, "ready": ready, "busy": busy, "next": faces})
    context = {"section": "new", "step": 2, "files": status, "ready": ready, "busy": busy, "next": faces}
    return render(request, "pages/new_check.html", context)


def _status(files: Files, asset: Asset) -> dict[str, Any]:
    return {
        "asset": asset,
        "state": words.asset_state(asset),
        "busy": asset.state in BUSY,
        "bad": asset.state in {Asset.State.REFUSED, Asset.State.FAILED},
        "progress": words.progress(asset.progress),
        "advice": words.ADVICE.get(asset.failure_code, ""),
        "appeal": appeals.offer(asset, files.query()),
        "replace": f"{reverse('pages:new')}?{files.query(without=asset)}",
    }


@require_safe
@for_account
def faces(request: HttpRequest) -> HttpResponseBase:
    """Step 2b: which faces are replaced, by which. The form's own GET leads on to the permission step."""
    files = files_of(request, request.GET)
    if not files.complete or any(asset.state != Asset.State.READY for asset in files.all):
        return redirect(f"{reverse('pages:new_check')}?{files.query()}")
    assert files.target is not None
    context = {
        "section": "new",
        "step": 2,
        "files": files,
        "target_faces": choices(files.target, request.GET.getlist("target_face")),
        "most": jobs.MAX_SWAPS,
        "source_faces": [(asset, choices(asset, request.GET.getlist(f"face_{asset.pk}"))) for asset in files.sources],
        "choose_source": any(len(asset.faces) > 1 for asset in files.sources),
    }
    return render(request, "pages/new_faces.html", context)


@require_safe
@for_account
def pairs(request: HttpRequest) -> HttpResponseBase:
    """Step 2c, where several faces and several photos were given: which photos go onto which face."""
    files = files_of(request, request.GET)
    if not files.complete or any(asset.state != Asset.State.READY for asset in files.all):
        return redirect(f"{reverse('pages:new_check')}?{files.query()}")
    assert files.target is not None
    try:
        photos = [(asset, picked(asset, request.GET.get(f"face_{asset.pk}"))) for asset in files.sources]
    except jobs.JobsError:
        return redirect(f"{reverse('pages:new_faces')}?{files.query()}")
    faces = [choice for choice in choices(files.target, request.GET.getlist("target_face")) if choice.chosen]
    context = {
        "section": "new",
        "step": 2,
        "files": files,
        "photos": photos,
        "faces": [(face, request.GET.getlist(f"photo_{face.index}")) for face in faces],
        "most": jobs.MAX_SOURCES,
        "undone": any(name.startswith("photo_") for name in request.GET),
        "back": f"{reverse('pages:new_faces')}?{files.query()}",
    }
    return render(request, "pages/new_pairs.html", context)


@dataclass(frozen=True)
class FaceChoice:
    """One face of an upload, to be picked."""

    index: int
    words: str
    chosen: bool


def choices(asset: Asset, chosen: Sequence[str] = ()) -> list[FaceChoice]:
    """The faces of an analysed upload; unless some were `chosen` (indices as text), the largest is, beforehand."""
    sizes = {_index(face, position): _area(face) for position, face in enumerate(asset.faces)}
    largest = max(sizes, key=lambda index: (sizes[index], -index), default=0)
    wanted = set(chosen) & set(map(str, sizes)) or {str(largest)}
    return [
        FaceChoice(index, _described(face, position), str(index) in wanted)
        for position, face in enumerate(asset.faces)
        for index in [_index(face, position)]
    ]


def picked(asset: Asset, text: str | None) -> int:
    """The face that was picked in an upload, or its only one. Raises Http404 for one that is not there.

    Raises JobsError face_choice_required when the upload shows several faces and none was picked.
    """
    known = [choice.index for choice in choices(asset)]
    if not text:
        return jobs.chosen_face(asset, None)
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) in known):
        raise Http404
    return int(text)


def _index(face: dict[str, Any], position: int) -> int:
    return int(face.get("index", position))


def _area(face: dict[str, Any]) -> float:
    if isinstance(size := face.get("size"), int | float):
        return float(size)
    box: Iterable[float] = face.get("box") or (0, 0, 0, 0)
    _, _, width, height = box
    return float(width) * float(height)


def _described(face: dict[str, Any], position: int) -> str:
    """`Face 2, 0:03 to 0:07, turned left`."""
    parts = [f"Face {position + 1}"]
    start, end = face.get("first_seconds"), face.get("last_seconds")
    if isinstance(start, int | float) and isinstance(end, int | float) and end > 0:
        parts.append(f"{_clock(start)} to {_clock(end)}")
    yaw = face.get("yaw")
    if isinstance(yaw, int | float) and abs(yaw) > 15:
        parts.append("turned to the side")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
