"""A stand-in for a service that judges uploads: a real TLS server on loopback that says what a test wrote down."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.webapp.core.test_net import NAME, Server, head, issue
from webapp.net import Policy
from worker.gate.packs.outside import Account, Outside
from worker.gate.packs.outside_services import PROVIDERS
from worker.outside_door import ANSWER_BYTES, send

KEY = "key-that-nobody-may-read-anywhere"
SYNC, ASYNC, TASK = "POST /api/v2/task/sync", "POST /api/v2/task/async", "GET /api/v2/task/task-7"
PLACE, RESULT = "POST /api/files/aws-presigned", "GET /api/media/users/request-7"
SENSITY, REPORT = "POST /tasks/face_manipulation", "GET /tasks/face_manipulation/report-7"


@dataclass(frozen=True)
class Say:
    """One answer; `body` is JSON unless it is bytes, `after` are seconds until it comes."""

    body: Any = None
    status: int = 200
    headers: tuple[str, ...] = ()
    after: float = 0.0

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Asked:
    """One request as it came; names of headers in lower case."""

    verb: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class StandIn(Server):
    """Answers each "VERB /path" with what is written down for it in turn; the last is said again and again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(*issue(folder, NAME))
        self.script: dict[str, list[Say]] = {}
        self.asked: list[Asked] = []
        self.answer = self._say

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}"

    def policy(self, seconds: float) -> Policy:
        """As the door's, but for this server."""
        return Policy(
            max_bytes=ANSWER_BYTES,
            ports=frozenset({self.port}),
            max_redirects=0,
            permits=lambda address: address.is_loopback,
            resolve=lambda host, port: ["127.0.0.1"],
            tls=self.trust,
            step_seconds=seconds,
            total_seconds=seconds,
        )

    def outside(self, *, seconds: float = 5.0, key: str = KEY) -> Outside:
        """Accounts that lead here."""
        return Outside(send, {name: Account(self.url, key) for name in PROVIDERS}, seconds=seconds, pause=0.02)

    def _say(self, connected: ssl.SSLSocket, path: str) -> None:
        first, _, body = self.seen[-1].partition(b"\r\n\r\n")
        start, *lines = first.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(body) < length and (piece := connected.recv(1 << 16)):
            body += piece
        verb = start.split(" ")[0]
        self.asked.append(Asked(verb, path, headers, body))
        says = self.script.get(f"{verb} {path}") or [Say({"error": "nobody wrote an answer down"}, 404)]
        say = says.pop(0) if len(says) > 1 else says[0]
        time.sleep(say.after)
        connected.sendall(head(len(say.content), *say.headers, status=f"{say.status} as asked") + say.content)


def hive(*frames: dict[str, Any], code: Any = "0") -> dict[str, Any]:
    return {"id": "task-7", "status": [{"status": {"code": code}, "response": {"output": list(frames)}}]}


def faces(seconds: float, *scores: float) -> dict[str, Any]:
    named = [[{"class": "no_deepfake", "score": 1 - s}, {"class": "yes_deepfake", "score": s}] for s in scores]
    return {"time": seconds, "bounding_poly": [{"classes": one, "meta": {"type": "face"}} for one in named]}


def generated(score: float) -> dict[str, Any]:
    classes = [("not_ai_generated", 1 - score), ("ai_generated", score), ("midjourney", score / 2), ("none", 0.1)]
    return {"time": 0, "classes": [{"class": name, "score": value} for name, value in classes]}


def defender(status: str, score: Any, *models: dict[str, Any]) -> dict[str, Any]:
    return {"resultsSummary": {"status": status, "metadata": {"finalScore": score}}, "models": list(models)}


def sensity(name: str, probability: Any, **more: Any) -> dict[str, Any]:
    result = {"class_name": name, "class_probability": probability, "explanation": more.pop("explanation", None)}
    return {"id": "report-7", "status": "completed", "no_faces": False, "result": result, **more}


GOOD = Say(hive(faces(0, 0.5)))
