"""Services that judge uploads: Reality Defender, Hive, Sensity, each by the shape of its public interface.

Nobody here has an account with any of them: the shapes are those that were public in 2026, and were tried against
stand-ins only. Compare them with your provider's documents before you rely on one. Whatever does not look as expected
is an error of the kind and goes to a person.

Reality Defender: its own SDKs (github.com/Reality-Defender, Apache-2.0; paths, header `X-API-KEY`, upload to a signed
address, `resultsSummary`, scores of 0 to 100, 404 while a request is not known yet). Certain.
Hive: docs.thehive.ai, "Submit a Task Synchronously" and "Asynchronously", "Deepfake Detection", "AI-Generated Content
Detection" (header `Authorization: Token`, form field `media`, classes and times). The address under which an
asynchronous task's result is read ("Get Task Summary") is not: the documents name the way and show no path that could
be quoted here; /api/v2/task/ID is taken for it. A photo is sent synchronously and does not need it.
Sensity: docs.sensity.ai (version 2.38: bearer token, formats and limits) for the outline; the form field, `report_id`,
`status`, `result.class_name`, `class_probability`, `no_faces` and `explanation` as public clients of it read them. Less
certain than the others.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from worker.gate.packs.outside import (
    MOST_TOLD,
    Account,
    Answer,
    Call,
    Outside,
    OutsideError,
    Request,
    form,
    identifier,
    score_of,
    seconds_of,
    word,
)
from worker.gate.upload import Upload

_PICTURES: Final = frozenset({"image/jpeg", "image/png", "image/webp"})
_FILMS: Final = frozenset({"video/mp4", "video/quicktime", "video/webm", "video/x-matroska"})


@dataclass(frozen=True)
class Service:
    """A detector that is asked over the network. `largest` is what it takes in bytes, of photos and videos;
    `interface` names the version of the shape, so that what was measured through another does not count."""

    id: str
    title: str
    provider: str
    kind: str
    interface: str
    mimes: frozenset[str]
    largest: tuple[int, int]
    judge: Callable[[Call, Upload], Answer]

    @property
    def sha256(self) -> str:
        """Stands for a pack's hash. The service's own model may change behind it, which only drift tells."""
        return hashlib.sha256(f"{self.id} {self.interface}".encode()).hexdigest()

    def ask(self, outside: Outside, upload: Upload) -> Answer:
        """Send the upload and wait for the answer. Raises OutsideError; OSError for a file that cannot be read."""
        photo, film = self.largest
        if upload.mime not in self.mimes or upload.path.stat().st_size > (photo if upload.kind == "photo" else film):
            raise OutsideError("service_unfit", "The service does not take files of this format or size.")
        account = outside.accounts.get(self.provider, Account("", ""))
        try:
            return self.judge(Call(outside, account), upload)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise OutsideError("service_answer", "The service's answer has not the form expected.") from error


def _reality_defender(call: Call, upload: Upload) -> Answer:
    head = {"X-API-KEY": call.key}
    name = json.dumps({"fileName": upload.name}).encode()
    place = Request("POST", call.url("/api/files/aws-presigned"), {**head, "Content-Type": "application/json"}, name)
    found = call.json(place)
    number = identifier(found["requestId"])
    # The signed address is another host's: it gets the file, never the key.
    call.ask(Request("PUT", str(found["response"]["signedUrl"]), {"Content-Type": upload.mime}, file=upload.path))
    return call.poll(Request("GET", call.url(f"/api/media/users/{number}"), head), _read_reality_defender)


def _read_reality_defender(found: Any) -> Answer | None:
    summary = found["resultsSummary"]
    status = summary["status"]
    if status == "ANALYZING":
        return None
    models = [
        {"name": word(one["name"]), "status": word(one["status"]), "score": one.get("finalScore")}
        for one in (found.get("models") or [])[:MOST_TOLD]
    ]
    for one in models:
        one["score"] = None if one["score"] is None else _of_hundred(one["score"])
    told = {"status": word(status), "models": models}
    if status in ("NOT_APPLICABLE", "UNABLE_TO_EVALUATE"):
        return Answer(None, told=told)
    if status not in ("AUTHENTIC", "FAKE", "ARTIFICIAL", "MANIPULATED", "SUSPICIOUS"):
        raise OutsideError("service_answer", "The service named a status that is not known.")
    return Answer(_of_hundred(summary["metadata"]["finalScore"]), told=told)


def _of_hundred(value: Any) -> float:
    """As the SDKs read it: of 100 where it is more than 1. One of 100 so counts as certain, which errs to a person."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 1:
        return score_of(value / 100)
    return score_of(value)


def _hive_deepfake(call: Call, upload: Upload) -> Answer:
    return _hive(call, upload, _faces)


def _hive_ai_image(call: Call, upload: Upload) -> Answer:
    return _hive(call, upload, _generated)


def _hive(call: Call, upload: Upload, pick: Callable[[Mapping[str, Any]], float | None]) -> Answer:
    head = {"Authorization": f"Token {call.key}", "Accept": "application/json"}
    before, after, content = form(upload, "media", {}, secrets.token_hex(16))
    way = "sync" if upload.kind == "photo" else "async"
    sent = Request(
        "POST", call.url(f"/api/v2/task/{way}"), {**head, "Content-Type": content}, before, upload.path, after
    )
    found = call.json(sent)

    def read(task: Any) -> Answer | None:
        return _read_hive(task, pick)

    if (answer := read(found)) is not None:
        return answer
    number = identifier(found.get("task_id") or found.get("id"))
    return call.poll(Request("GET", call.url(f"/api/v2/task/{number}"), head), read)


def _read_hive(found: Any, pick: Callable[[Mapping[str, Any]], float | None]) -> Answer | None:
    if not found.get("status"):
        return None  # taken, and not done yet
    (part, *_) = found["status"]
    if str(part["status"]["code"]) != "0":
        raise OutsideError("service_answer", "The service says that its task failed.")
    frames = [(seconds_of(frame.get("time", 0)), pick(frame)) for frame in part["response"]["output"]]
    if not frames:
        raise OutsideError("service_answer", "The service looked at no picture.")
    timeline = tuple((seconds, score) for seconds, score in frames if score is not None)
    # The highest face sums up a file, by Hive's own documents.
    return Answer(max((score for _, score in timeline), default=None), timeline)


def _faces(frame: Mapping[str, Any]) -> float | None:
    """The highest score of the faces of a frame; None without any."""
    groups = [face["classes"] for face in frame.get("bounding_poly") or []]
    if "bounding_poly" not in frame and "classes" not in frame:
        raise OutsideError("service_answer", "The service says nothing about faces.")
    named = [{one["class"]: one["score"] for one in group} for group in [*groups, frame.get("classes") or []]]
    found = [score_of(one[name]) for one in named for name in ("yes_deepfake", "deepfake") if name in one]
    if groups and not found:
        raise OutsideError("service_answer", "The service says nothing about the faces it found.")
    return max(found, default=None)


def _generated(frame: Mapping[str, Any]) -> float | None:
    return score_of({one["class"]: one["score"] for one in frame["classes"]}["ai_generated"])


def _sensity_face(call: Call, upload: Upload) -> Answer:
    return _sensity(call, upload, "face_manipulation")


def _sensity_image(call: Call, upload: Upload) -> Answer:
    return _sensity(call, upload, "ai_generated_image_detection")


def _sensity(call: Call, upload: Upload, task: str) -> Answer:
    head = {"Authorization": f"Bearer {call.key}", "Accept": "application/json"}
    before, after, content = form(upload, "file", {"explain": "true"}, secrets.token_hex(16))
    place = call.url(f"/tasks/{task}")
    found = call.json(Request("POST", place, {**head, "Content-Type": content}, before, upload.path, after))
    if found.get("success") is False:
        raise OutsideError("service_answer", "The service did not take the file.")
    number = identifier(found["report_id"])
    return call.poll(Request("GET", f"{place}/{number}", head), _read_sensity)


def _read_sensity(found: Any) -> Answer | None:
    status = found["status"]
    if status == "failed":
        raise OutsideError("service_answer", "The service says that its task failed.")
    if status != "completed":
        return None
    if found.get("no_faces") is True:
        return Answer(None, told={"status": "no_faces"})
    result = found["result"]
    name, certain = result["class_name"], score_of(result["class_probability"])
    if name not in ("real", "fake"):
        raise OutsideError("service_answer", "The service named a class that is not known.")
    # The probability is that of the class it names.
    score = certain if name == "fake" else 1.0 - certain
    return Answer(score, tuple(_explained(result.get("explanation"))), {"status": name})


def _explained(found: Any) -> Iterator[tuple[float, float]]:
    for one in found if isinstance(found, list) else []:
        if "fake_frame_ms" in one:
            yield seconds_of(one["fake_frame_ms"]) / 1000, score_of(one["fake_probability"])


_MIB: Final = 1 << 20
SERVICES: Final[Mapping[str, Service]] = MappingProxyType(
    {
        one.id: one
        for one in (
            Service(
                "reality_defender", "Reality Defender", "reality_defender", "face_forgery", "users", _PICTURES | _FILMS,
                (50 * _MIB, 250 * _MIB), _reality_defender,
            ),
            Service(
                "hive_deepfake", "Hive, deepfake detection", "hive", "face_forgery", "v2", _PICTURES | _FILMS,
                (50 * _MIB, 250 * _MIB), _hive_deepfake,
            ),
            Service(
                "hive_ai_image", "Hive, AI-generated content", "hive", "ai_image", "v2", _PICTURES | _FILMS,
                (50 * _MIB, 250 * _MIB), _hive_ai_image,
            ),
            Service(
                "sensity_face", "Sensity, face manipulation", "sensity", "face_forgery", "tasks",
                _PICTURES | _FILMS, (32 * _MIB, 32 * _MIB), _sensity_face,
            ),
            Service(
                "sensity_ai_image", "Sensity, AI-generated images", "sensity", "ai_image", "tasks", _PICTURES,
                (32 * _MIB, 32 * _MIB), _sensity_image,
            ),
        )
    }
)  # fmt: skip
PROVIDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "reality_defender": "https://api.prd.realitydefender.xyz",
        "hive": "https://api.thehive.ai",
        "sensity": "https://api.sensity.ai",
    }
)
"""Where each is asked if the operator names no other place."""
