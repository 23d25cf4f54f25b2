"""Ask about a media file from any process: the file is only ever parsed inside a media child."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.media.errors import MediaError
from worker.media.magic import HEAD_BYTES, Sniffed, sniff
from worker.media.sandbox import Child, Limits, call
from worker.media.types import MAX_FILE_BYTES, MAX_VIDEO_BYTES, MAX_VIDEO_SECONDS, MediaInfo

_PROBE_SECONDS: Final = 60.0
_SAMPLE_SECONDS: Final = 900.0
_PROBE_LIMITS: Final = Limits(memory=3 << 30, cpu_seconds=120, file_size=1 << 30)
_SIGN_SECONDS: Final = 900.0
_READ_LIMITS: Final = Limits(memory=3 << 30, cpu_seconds=900, file_size=1 << 30)
_FRAMES_AHEAD: Final = 2
_DEADLY: Final = frozenset({"child_died", "child_timeout", "child_out_of_memory"})
"""What a child does not outlive, or may not have outlived."""


def probe(path: Path, *, name: str | None = None) -> MediaInfo:
    """Return what the file is; a photo is decoded wholly, of a video the header, the index and the first pictures.

    `name` is the name it was given by the person, if `path` has another. Raises MediaError with any code that says
    what is wrong with a file, or what became of the child.
    """
    with _opened(path, name) as (fd, kind):
        target = "probe_photo" if kind.kind == "photo" else "probe_video"
        facts = call(
            f"worker.media.entries:{target}",
            {"container": kind.container},
            fds=[fd],
            limits=_PROBE_LIMITS,
            timeout=_PROBE_SECONDS,
        )
        size, digest = _fingerprint(fd)
    photo = {"duration": None, "fps": None, "frames": None, "has_audio": False, "hdr": None, "codec": kind.container}
    return MediaInfo.from_dict({**photo, **facts, "kind": kind.kind, "mime": kind.mime, "size": size, "sha256": digest})


def decode_image(path: Path) -> NDArray[np.uint8]:
    """Return a photo as uint8 [H, W, 3] RGB, upright, sRGB, over white. Raises MediaError as `probe` does."""
    with _opened(path, None) as (fd, kind):
        if kind.kind != "photo":
            raise MediaError("format_unsupported", "a video where a photo is expected")
        reply = call(
            "worker.media.image:read_entry",
            {"container": kind.container},
            fds=[fd],
            limits=_PROBE_LIMITS,
            timeout=_PROBE_SECONDS,
        )
    return _picture(reply)


def sample_frames(
    path: Path,
    *,
    times: Sequence[float] | None = None,
    every: float | None = None,
    count: int | None = None,
    consecutive: int = 1,
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield (seconds from the first frame, uint8 [H, W, 3] RGB) for frames of a video, in order.

    Exactly one of `times` (seconds), `every` (seconds between samples) and `count` (spread over the length) is
    given; from each chosen time on, `consecutive` frames come, beginning with the first frame at or after it. With
    `times` alone there is exactly one answer per time; past the end that is the last frame. Few frames exist at a
    time, whatever the length. Raises MediaError while iterating.
    """
    if sum(choice is not None for choice in (times, every, count)) != 1:
        raise ValueError("Give one of times, every and count.")
    payload = {
        "times": None if times is None else list(times),
        "every": every,
        "count": count,
        "consecutive": consecutive,
    }
    with _opened(path, None) as (fd, kind):
        if kind.kind != "video":
            raise MediaError("format_unsupported", "a photo where a video is expected")
        order = {**payload, "container": kind.container}
        with Child("worker.media.entries:sample_frames", order, fds=[fd], limits=_PROBE_LIMITS) as child:
            child.grant(_FRAMES_AHEAD)
            for message in child.messages(_SAMPLE_SECONDS):
                yield float(message["seconds"]), _picture(message)
                child.grant()


class VideoFrames:
    """Frames of one open video, decoded where they are asked for. Made by `open_frames`.

    `duration`: seconds. `shrink`: height of the frames given, relative to those of the video. One answer at a time: a
    new question ends the answer to the one before. Few frames exist at a time.
    """

    def __init__(self, child: Child) -> None:
        self._child = child
        self._messages = child.messages(_SAMPLE_SECONDS)
        opening = next(self._messages, {})
        self.duration = _number(opening, "duration", MAX_VIDEO_SECONDS)
        self.shrink = _number(opening, "shrink", 1.0)
        self._number = 0
        self._granted = 0

    def keyframes(self, gap: float) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield (seconds, uint8 [H, W, 3] RGB) for keyframes in order, each at least `gap` seconds after the last.

        Only these are decoded, which costs a hundredth of decoding everything.
        """
        return self._ask({"gap": gap})

    def frames(self, start: float, count: int, step: float = 0.0) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield `count` frames from the first at or after `start` seconds on, each at least `step` after the last.

        With a `step`, frames that no other is predicted from are passed over, so a time may be met a little later.
        """
        return self._ask({"start": start, "count": count, "step": step})

    def _ask(self, wish: Mapping[str, Any]) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        self._number += 1
        number = self._number
        self._child.order({**wish, "number": number})
        self._grant(_FRAMES_AHEAD - self._granted)
        for message in self._messages:
            if "end" in message:
                if message.get("number") == number:
                    return
                continue
            self._granted -= 1
            if message.get("number") == number:
                yield _number(message, "seconds", MAX_VIDEO_SECONDS + 1), _picture(message)
                if number != self._number:
                    return
            self._grant(1)

    def _grant(self, count: int) -> None:
        self._granted += count
        self._child.grant(count)


@contextmanager
def open_frames(path: Path, *, short_side: int = 720, any_rate: bool = False) -> Iterator[VideoFrames]:
    """Open a video whose frames are chosen while it is read; larger ones are shrunk to `short_side` pixels.

    `any_rate`: a file that states no believable frame rate will do, as what browsers record often states none.

    Raises MediaError here and while frames are asked for.
    """
    with _opened(path, None) as (fd, kind):
        if kind.kind != "video":
            raise MediaError("format_unsupported", "a photo where a video is expected")
        order = {"container": kind.container, "short_side": short_side, "any_rate": any_rate}
        with Child("worker.media.entries:serve_frames", order, fds=[fd], limits=_READ_LIMITS) as child:
            yield VideoFrames(child)


class Examination:
    """One file that is asked about several times, in one media child. Made by `examine`.

    A child that died over one question is replaced for the next: what is wrong with a file's credentials says nothing
    about its picture.
    """

    def __init__(self, path: Path, fd: int, kind: Sniffed) -> None:
        self.kind = kind
        self._path = path.resolve()
        self._fd = fd
        self._child: Child | None = None
        self._film: Child | None = None

    def credentials(self, anchors_pem: str, **others: str) -> dict[str, Any]:
        """What `read_credentials` returns, for this file; `others` are its other certificates."""
        payload = {"path": str(self._path), "mime": self.kind.mime, "anchors_pem": anchors_pem, **others}
        return self._ask("watermark.credentials_reader:read_untrusted", payload)

    def claim_of(self, store: bytes) -> str:
        """The identity of the claim in a manifest store of our records; "" when it is none."""
        payload = {"store": base64.b64encode(store).decode()}
        return str(self._ask("watermark.credentials_reader:claim_entry", payload).get("claim", ""))

    def picture(self) -> NDArray[np.uint8]:
        """As `decode_image`."""
        return _picture(self._ask("worker.media.image:read_entry", {"container": self.kind.container}))

    def probe(self) -> dict[str, Any]:
        """The facts of a photo or video, as far as `probe` finds them without hashing the file."""
        target = "probe_photo" if self.kind.kind == "photo" else "probe_video"
        return self._ask(f"worker.media.entries:{target}", {"container": self.kind.container})

    def frames(self, *, short_side: int = 720) -> VideoFrames:
        """As `open_frames`. The child does nothing else from then on; a question after this one takes another."""
        self._film, self._child = self._serving(), None
        payload = {"container": self.kind.container, "short_side": short_side}
        self._film.order({"target": "worker.media.entries:serve_frames", "payload": payload})
        return VideoFrames(self._film)

    def close(self) -> None:
        """End whatever still runs."""
        for child in (self._child, self._film):
            if child is not None:
                child.close()
        self._child = self._film = None

    def _ask(self, target: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._serving().ask(target, payload, _PROBE_SECONDS)
        except MediaError as error:
            if error.code in _DEADLY and self._child is not None:
                self._child.close()
                self._child = None
            raise

    def _serving(self) -> Child:
        os.lseek(self._fd, 0, os.SEEK_SET)  # the place in the file is shared with the child
        if self._child is None:
            target = "worker.media.child:serve_calls"
            self._child = Child(target, {}, fds=[self._fd], limits=_READ_LIMITS, reads=[self._path])
        return self._child


@contextmanager
def examine(path: Path) -> Iterator[Examination]:
    """Open a file to ask several things about it. Raises MediaError as `identify`; nothing is parsed yet."""
    with _opened(path, None) as (fd, kind):
        examination = Examination(path, fd, kind)
        try:
            yield examination
        finally:
            examination.close()


def read_credentials(
    path: Path,
    mime: str,
    anchors_pem: str,
    *,
    tsa_anchors_pem: str = "",
    trust_list_pem: str = "",
    store: Path | None = None,
) -> dict[str, Any]:
    """Return the Content Credentials of an untrusted file as a dict; parsing them is the child's business too.

    `store`: a file with the manifest store that was fetched from the address the file names.
    The shape is that of `Credentials` in the room that builds and reads manifests.
    """
    path = path.resolve()
    payload = {
        "path": str(path),
        "mime": mime,
        "anchors_pem": anchors_pem,
        "tsa_anchors_pem": tsa_anchors_pem,
        "trust_list_pem": trust_list_pem,
    }
    reads = [path]
    if store is not None:
        reads.append(store.resolve())
        payload["store_path"] = str(reads[-1])
    return call(
        "watermark.credentials_reader:read_untrusted",
        payload,
        reads=reads,
        limits=_PROBE_LIMITS,
        timeout=_PROBE_SECONDS,
    )


def read_declarations(path: Path) -> dict[str, Any]:
    """Return what the file says of its own making, as the gate's reader of metadata finds it. Raises MediaError."""
    with _opened(path, None) as (fd, kind):
        return call(
            "worker.gate.declared.declarations:read_entry",
            {"container": kind.container},
            fds=[fd],
            limits=_PROBE_LIMITS,
            timeout=_PROBE_SECONDS,
        )


def read_store(store: bytes, anchors_pem: str, *, tsa_anchors_pem: str = "") -> dict[str, Any]:
    """Return what a manifest store of our records says, as `read_credentials`; of no file."""
    payload = {
        "store": base64.b64encode(store).decode(),
        "anchors_pem": anchors_pem,
        "tsa_anchors_pem": tsa_anchors_pem,
    }
    target = "watermark.credentials_reader:store_entry"
    return call(target, payload, limits=_PROBE_LIMITS, timeout=_PROBE_SECONDS)


def sign_credentials(
    order: Mapping[str, Any], ask: Callable[[str, bytes], bytes], *, seconds: float = _SIGN_SECONDS
) -> dict[str, Any]:
    """Sign a file in a media child, which has no keys: `ask(what, request)` answers for it.

    `order` names the file "path", its signed copy "out" and the "ingredients"; the child may read and write no other.
    What `ask` raises ends the signing. Raises MediaError, and the native half's own error as ChildError.
    """
    paths = [Path(order["path"]), *(Path(each["path"]) for each in order["ingredients"])]
    size = max(path.stat().st_size for path in paths)
    # The library holds a film once while it hashes it, and ours may hold an ingredient beside it.
    limits = replace(_PROBE_LIMITS, memory=(2 << 30) + 3 * size, cpu_seconds=900, file_size=size + (64 << 20))
    payload = {**order, "path": str(paths[0].resolve()), "out": str(Path(order["out"]).absolute())}
    with Child(
        "watermark.native_signing:sign_entry",
        payload,
        limits=limits,
        reads=[path.resolve() for path in paths],
        writes=[Path(order["out"]).resolve().parent],
    ) as child:
        for message in child.messages(seconds):
            try:
                answer = ask(str(message["ask"]), base64.b64decode(str(message["data"])))
            except Exception:
                child.order({"failed": True})  # whoever asked knows why; the child ends with an error of its own
                continue
            child.order({"answer": base64.b64encode(answer).decode()})
        if child.result is None:
            raise MediaError("child_died", "no result")
        return child.result


def identify(path: Path, name: str | None = None) -> Sniffed:
    """Return what the first bytes of a file say it is. Raises MediaError; nothing is parsed."""
    with _opened(path, name) as (_, kind):
        return kind


@contextmanager
def _opened(path: Path, name: str | None) -> Iterator[tuple[int, Sniffed]]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        kind = sniff(os.pread(fd, HEAD_BYTES, 0), name or path.name)
        if os.fstat(fd).st_size > (MAX_FILE_BYTES if kind.kind == "photo" else MAX_VIDEO_BYTES):
            raise MediaError("too_large")
        yield fd, kind
    finally:
        os.close(fd)


def _fingerprint(fd: int) -> tuple[int, str]:
    digest, offset = hashlib.sha256(), 0
    while block := os.pread(fd, 1 << 20, offset):
        digest.update(block)
        offset += len(block)
    return offset, digest.hexdigest()


def _number(message: Mapping[str, Any], name: str, most: float) -> float:
    value = message.get(name)
    if not isinstance(value, int | float) or not 0 <= value <= most:
        raise MediaError("child_died", f"{name} is no number up to {most:g}")
    return float(value)


def _picture(message: Mapping[str, Any]) -> NDArray[np.uint8]:
    arrays = message.get("arrays", [])
    if len(arrays) != 1 or arrays[0].ndim != 3 or arrays[0].shape[2] != 3 or arrays[0].dtype != np.uint8:
        raise MediaError("child_died", "not a picture")
    picture: NDArray[np.uint8] = arrays[0]
    return picture
