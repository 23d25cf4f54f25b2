"""Media, a development authority and a manifest request, made once; every signed file is made from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from watermark.manifest import SignedManifest, sign_file
from watermark.manifest_request import ConsentRef, IngredientFile, ManifestRequest
from watermark.signers import DevelopmentAuthority

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SUFFIX = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/avif": ".avif",
    "video/mp4": ".mp4",
    "video/quicktime": ".mov",
}
MARK = bytes.fromhex("00d1e2a3b4c5f607")


@pytest.fixture(scope="session")
def mark_id() -> bytes:
    return MARK


@pytest.fixture(scope="session")
def dev_authority(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentAuthority:
    return DevelopmentAuthority.create(tmp_path_factory.mktemp("signer"))


@pytest.fixture(scope="session")
def plain_media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small file per format, as the pipeline writes them: no metadata, no manifest."""
    folder = tmp_path_factory.mktemp("media")
    with Image.open(SAMPLES / "astronaut.jpg") as picture:
        small = picture.convert("RGB").resize((256, 256))
    small.save(folder / "plain.jpg", quality=92)
    small.save(folder / "plain.png")
    small.save(folder / "plain.webp", quality=90)
    small.save(folder / "plain.avif", quality=90)
    write_video(folder / "plain.mp4", np.asarray(small))
    write_video(folder / "plain.mov", np.asarray(small))
    return {mime: folder / f"plain{suffix}" for mime, suffix in SUFFIX.items()}


def write_video(path: Path, picture: np.ndarray, *, index_first: bool = True) -> None:
    """Half a second of H.264 with a silent audio track."""
    with av.open(str(path), "w", options={"movflags": "+faststart"} if index_first else {}) as container:
        video = container.add_stream("libx264", rate=24, options={"preset": "ultrafast", "threads": "1"})
        video.width, video.height, video.pix_fmt = picture.shape[1], picture.shape[0], "yuv420p"
        audio = container.add_stream("aac", rate=48000, layout="mono")
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(np.roll(picture, index * 4, axis=1)), format="rgb24"
            )
            container.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate = 48000
            sound.pts = index * 1024
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


@pytest.fixture
def request_for() -> Callable[..., ManifestRequest]:
    """`request_for("image/png", livemode=True)`: Ada gives her face, Ben's is replaced."""

    def make(mime: str, **changes: Any) -> ManifestRequest:
        values: dict[str, Any] = {
            "mime": mime,
            "target": IngredientFile(mime),
            "sources": (IngredientFile("image/jpeg"),),
            "mark_id": MARK,
            "consent_refs": (ConsentRef("cns_ada1", "face_donor"), ConsentRef("cns_ben1", "target_person")),
            "policy_version": "2026-11",
            "livemode": False,
            "status_url": "http://127.0.0.1:8000/verify/out_1",
            "screening_ref": "scr_1",
            "profile": "evaluation",
            "not_screened": ("nsfw", "face_forgery"),
            "model_set": "extended-0123456789ab",
            "models": ("hyperswap_1a_256", "gfpgan_1.4"),
        }
        return ManifestRequest(**(values | changes))

    return make


@pytest.fixture
def sign(
    plain_media: dict[str, Path],
    request_for: Callable[..., ManifestRequest],
    dev_authority: DevelopmentAuthority,
    tmp_path: Path,
) -> Callable[..., tuple[Path, SignedManifest]]:
    """Sign one plain file; returns the signed path and what `sign_file` returned."""

    def do(mime: str, name: str = "signed", **changes: Any) -> tuple[Path, SignedManifest]:
        path = tmp_path / f"{name}{SUFFIX[mime]}"
        request = request_for(mime, **changes)
        return path, sign_file(
            plain_media[mime], path, request, dev_authority.signer(), anchors_pem=dev_authority.root_pem
        )

    return do


@pytest.fixture(scope="session")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentAuthority:
    """Another deployment's authority: a stranger to ours."""
    return DevelopmentAuthority.create(tmp_path_factory.mktemp("other-signer"))
