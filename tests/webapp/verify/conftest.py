"""Published outputs with real marks, manifests and fingerprints, and what strangers make of their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from django.conf import settings
from numpy.typing import NDArray

from tests.webapp import cast
from tests.webapp.core.test_net import NAME, Server, issue
from watermark import fingerprint, image, manifest
from watermark.manifest_request import ConsentRef, IngredientFile, ManifestRequest
from watermark.payload import new_mark_id
from webapp import keys_of_house
from webapp.jobs.models import Output
from webapp.net import Policy
from webapp.verify import services


@dataclass(frozen=True)
class Published:
    """An output as it was published: its row, its file, its pixels, its mark and its manifest store."""

    output: Output
    path: Path
    rgb: NDArray[np.uint8]
    mark: bytes
    store: bytes


def save(path: Path, rgb: NDArray[np.uint8], *options: int) -> Path:
    """Write a picture with the options of OpenCV's encoder."""
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), list(options))
    return path


@pytest.fixture
def publish(cleo: cast.Account, tmp_path: Path) -> Callable[[NDArray[np.uint8]], Published]:
    """Publish a picture of Cleo's: marked, signed, recorded."""

    def make(rgb: NDArray[np.uint8]) -> Published:
        mark = new_mark_id()
        marked = image.embed(rgb, mark, keys_of_house.mark_keys()[0])
        plain, path = (tmp_path / f"{mark.hex()}-{name}.png" for name in ("plain", "signed"))
        save(plain, marked)
        request = ManifestRequest(
            mime="image/png",
            target=IngredientFile("image/jpeg"),
            sources=(IngredientFile("image/jpeg"),),
            mark_id=mark,
            consent_refs=(ConsentRef("cns_ada1", "face_donor"),),
            policy_version="2026-11",
            livemode=False,
            status_url=f"{settings.PUBLIC_URL}/verify/o/out_1",
        )
        made = manifest.sign_file(plain, path, request, keys_of_house.signer(), anchors_pem=keys_of_house.anchors_pem())
        record = {"kind": "photo", "frames": [{"seconds": 0.0, "fingerprint": fingerprint.take(marked).to_json()}]}
        output = cast.published(cleo, path, mark_id=mark, fingerprint=record)
        Output.objects.filter(pk=output.pk).update(manifest_label=made.label, manifest_store=made.store)
        output.refresh_from_db()
        return Published(output, path, marked, mark, made.store)

    return make


@pytest.fixture
def grace_published(publish: Callable[..., Published], grace: NDArray[np.uint8]) -> Published:
    """Grace Hopper's portrait, published."""
    return publish(grace)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Another server, which the rules of this test let us reach."""
    server = Server(*issue(tmp_path, NAME))
    rules = Policy(
        ports=frozenset({server.port}),
        permits=lambda address: address.is_loopback,
        resolve=lambda host, port: ["127.0.0.1"],
        tls=server.trust,
        max_bytes=5 << 20,
    )
    monkeypatch.setattr(services, "fetch_policy", lambda: rules)
    yield server
    server.close()
