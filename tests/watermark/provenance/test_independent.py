"""What two other implementations of C2PA, which share no code with ours, say of our files.

Encypher's verifier (Apache-2.0, Rust, from PyPI) reads all six formats; c2pa-ts (Apache-2.0, TypeScript, from npm)
reads JPEG, PNG and AVIF of them, and no time stamps. Both are for the tests only.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.watermark.provenance.strangers import foreign, inspected
from tests.watermark.provenance.test_reader import flip_media_byte
from tests.watermark.provenance.test_time_stamps import authority, service  # noqa: F401 - fixtures
from watermark.manifest import sign_file
from watermark.manifest_request import FORMATS

HERE = Path(__file__).parent / "independent"
ROOT = Path(__file__).resolve().parents[3]
READ_BY_C2PA_TS = ("image/jpeg", "image/png", "image/avif")

encypher = pytest.importorskip("encypher_c2pa")


@pytest.fixture(scope="session")
def c2pa_ts() -> Callable[..., list[dict[str, Any]]]:
    """Ask c2pa-ts about files; it is installed once, as its lock file says, into a folder that git ignores."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("c2pa-ts needs npm and node")
    folder = ROOT / "var" / "tests" / "c2pa-ts"
    folder.mkdir(parents=True, exist_ok=True)
    lock = (HERE / "package-lock.json").read_bytes()
    descriptor = os.open(folder / "installing", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # several test processes may come here at once
        done = folder / "installed"
        if not done.exists() or done.read_bytes() != lock:
            for name in ("package.json", "package-lock.json", "check.mjs"):
                shutil.copyfile(HERE / name, folder / name)
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
            if made.returncode != 0:
                pytest.skip(f"npm could not install c2pa-ts: {made.stderr[-300:]}")
            done.write_bytes(lock)
    finally:
        os.close(descriptor)

    def check(*paths: Path) -> list[dict[str, Any]]:
        shutil.copyfile(HERE / "check.mjs", folder / "check.mjs")
        command = [node, "check.mjs", *map(str, paths)]
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
        return [json.loads(line) for line in said.stdout.splitlines()]

    return check


def verified(path: Path, mime: str, anchors: str, stamps: str | None = None) -> dict[str, Any]:
    """Encypher's report, with no trust but ours, and without a word to anybody."""
    return encypher.verify(
        str(path),
        mime,
        trust_pem=anchors,
        tsa_trust_pem=stamps,
        no_default_trust=True,
        telemetry=False,
        online=False,
    )


def codes(report: dict[str, Any], kind: str) -> list[str]:
    return [each["code"] for each in report["validation_results"][kind]]


@pytest.mark.parametrize("mime", FORMATS)
def test_another_implementation_finds_every_format_whole_and_trusts_it_under_our_root(sign, dev_authority, mime):
    path, _ = sign(mime)
    report = verified(path, mime, dev_authority.root_pem)
    assert (report["integrity"], report["signature"], report["hard_binding"]) == ("valid", "valid", "match")
    assert report["trust"]["status"] == "valid_for_supplied_material"
    assert codes(report, "failure") == []


@pytest.mark.parametrize("mime", FORMATS)
def test_another_implementation_sees_one_changed_byte(sign, dev_authority, tmp_path, mime):
    path, _ = sign(mime)
    changed = tmp_path / f"changed{path.suffix}"
    changed.write_bytes(flip_media_byte(path, mime))
    report = verified(changed, mime, dev_authority.root_pem)
    assert (report["integrity"], report["hard_binding"]) == ("invalid", "mismatch")


@pytest.mark.parametrize("mime", FORMATS)
def test_another_implementation_trusts_the_time_of_our_signature(
    authority,  # noqa: F811
    service,  # noqa: F811
    plain_media,
    request_for,
    dev_authority,
    tmp_path,
    mime,
):
    path = tmp_path / f"stamped{plain_media[mime].suffix}"
    anchors = {"anchors_pem": dev_authority.root_pem, "tsa_anchors_pem": authority.root_pem}
    sign_file(plain_media[mime], path, request_for(mime), dev_authority.signer(), tsa=service, **anchors)
    report = verified(path, mime, dev_authority.root_pem, authority.root_pem)
    assert report["integrity"] == "valid"
    assert {"timeStamp.validated", "timeStamp.trusted"} <= set(codes(report, "success"))
    assert codes(report, "failure") == []


@pytest.mark.parametrize("mime", FORMATS)
def test_another_implementation_accepts_an_input_that_was_kept_whole(
    sign, plain_media, dev_authority, other_authority, tmp_path, c2pa_ts, mime
):
    target = tmp_path / f"target{plain_media[mime].suffix}"
    plain = plain_media[mime].read_bytes()
    target.write_bytes(foreign(plain, other_authority, "trainedAlgorithmicMedia", mime=mime, thumbnail=False))
    inspection = inspected(target, mime)
    assert inspection.kept_whole
    path, _ = sign(mime, target=inspection)
    anchors = dev_authority.root_pem + other_authority.root_pem
    report = verified(path, mime, anchors)
    assert (report["integrity"], report["trust"]["status"]) == ("valid", "valid_for_supplied_material")
    if mime in READ_BY_C2PA_TS:
        assert c2pa_ts(path) == [{"valid": True, "failures": []}]


@pytest.mark.parametrize("mime", READ_BY_C2PA_TS)
def test_a_third_implementation_agrees_about_stills(sign, tmp_path, c2pa_ts, mime):
    path, _ = sign(mime)
    changed = tmp_path / f"changed{path.suffix}"
    changed.write_bytes(flip_media_byte(path, mime))
    whole, broken = c2pa_ts(path, changed)
    assert whole == {"valid": True, "failures": []}
    assert not broken["valid"]


def test_no_other_implementation_is_part_of_the_product():
    for room in ("watermark", "worker", "consent", "webapp", "deploy/requirements.lock"):
        place = ROOT / room
        for path in place.rglob("*.py") if place.is_dir() else [place]:
            assert "encypher" not in path.read_text(encoding="utf-8"), path
