"""What is signed, and that nothing else is published with it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import c2pa
import pytest
from PIL import Image

from tests.watermark.provenance.strangers import TYPE, foreign, inspected
from watermark.credentials_reader import closed_settings
from watermark.manifest import read, sign_file
from watermark.manifest_request import (
    FORMATS,
    PRODUCT_VERSION,
    ConsentRef,
    IngredientFile,
    ManifestError,
    ManifestRequest,
)
from watermark.signers import CallbackSigner, SignerError

ROOT = Path(__file__).resolve().parents[3]


def active(path: Path, mime: str, anchors: str) -> dict:
    """The active manifest as the conformance programme's own JSON (crJSON) shows it."""
    with c2pa.Context.from_dict(closed_settings(anchors)) as context, path.open("rb") as file:
        report = json.loads(c2pa.Reader(mime, file, context=context).crjson())
    return report["manifests"][0]


@pytest.mark.parametrize("mime", FORMATS)
def test_every_format_is_trusted_under_our_root_and_only_valid_without_it(sign, dev_authority, mark_id, mime):
    path, signed = sign(mime)
    ours = read(path, mime, anchors_pem=dev_authority.root_pem)
    assert (ours.state, ours.is_ours, ours.mark_ids, ours.bytes_match) == ("trusted", True, (mark_id,), True)
    assert ours.label == signed.label
    assert ours.failures == ()
    stranger = read(path, mime, anchors_pem="")
    assert (stranger.state, stranger.is_ours, stranger.signature_trusted) == ("valid", False, False)
    assert stranger.failures == ("signingCredential.untrusted",)


@pytest.mark.parametrize("mime", FORMATS)
def test_the_manifest_keeps_the_structural_rules_of_the_specification(sign, dev_authority, mime):
    path, _ = sign(mime)
    manifest = active(path, mime, dev_authority.root_pem)
    claim = manifest["claim.v2"]
    assert claim["claim_generator_info"]["name"] == "Imprimatur"
    assert claim["claim_generator_info"]["version"] == PRODUCT_VERSION
    assert claim["claim_generator_info"]["specVersion"] == "2.4.0"
    assert claim["gathered_assertions"] == []
    assert manifest["label"].startswith("urn:c2pa:")

    data = manifest["assertions"]["c2pa.actions.v2"]
    assert data["allActionsIncluded"] is True
    opened, placed, edited, marked = data["actions"]
    assert [opened["action"], placed["action"]] == ["c2pa.opened", "c2pa.placed"]
    assert [edited["action"], marked["action"]] == ["c2pa.edited", "c2pa.watermarked.bound"]
    assert len(opened["parameters"]["ingredients"]) == 1
    assert not any("digitalSourceType" in action for action in (opened, placed, marked))
    assert edited["digitalSourceType"] == f"{TYPE}compositeWithTrainedAlgorithmicMedia"
    assert edited["softwareAgent"] == {"name": "Imprimatur", "version": PRODUCT_VERSION}

    target, source = (manifest["assertions"][name] for name in ("c2pa.ingredient.v3", "c2pa.ingredient.v3__1"))
    assert opened["parameters"]["ingredients"][0]["url"].endswith("/c2pa.ingredient.v3")
    assert placed["parameters"]["ingredients"][0]["url"].endswith("/c2pa.ingredient.v3__1")
    assert (target["relationship"], source["relationship"]) == ("parentOf", "componentOf")
    assert (target["dc:title"], source["dc:title"]) == ("target", "source photo")

    binding = manifest["assertions"]["c2pa.soft-binding"]
    assert binding["alg"] == "io.imprimatur.watermark.1"
    assert binding["blocks"] == [{"scope": {}, "value": "ANHio7TF9gc="}]
    assert not {"url", "extent"} & set(binding)
    uses = manifest["assertions"]["cawg.training-mining"]["entries"]
    assert {entry["use"] for entry in uses.values()} == {"notAllowed"}
    assert len(uses) == 4


def test_the_consent_assertion_holds_opaque_ids_and_says_what_was_not_screened(sign, dev_authority):
    refs = (ConsentRef("cns_ada1", "face_donor"), ConsentRef("att_9", "target_person", "attested"))
    path, _ = sign("image/jpeg", consent_refs=refs)
    assert active(path, "image/jpeg", dev_authority.root_pem)["assertions"]["io.imprimatur.consent"] == {
        "records": [
            {"record": "cns_ada1", "role": "face_donor", "status": "given"},
            {"record": "att_9", "role": "target_person", "status": "attested"},
        ],
        "policy_version": "2026-11",
        "screening": {"record": "scr_1", "not_screened": ["nsfw", "face_forgery"]},
        "made_with": {"model_set": "extended-0123456789ab", "models": ["hyperswap_1a_256", "gfpgan_1.4"]},
        "profile": "evaluation",
        "livemode": False,
        "status_url": "http://127.0.0.1:8000/verify/out_1",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"mark_id": b"short"},
        {"sources": ()},
        {"consent_refs": ()},
        {"consent_refs": (ConsentRef("cns_ben1", "target_person"),)},
        {"consent_refs": (ConsentRef("Ada Lovelace", "face_donor"),)},
        {"consent_refs": (ConsentRef("cns_1", "face_donor", "given by ada@example.org"),)},
        {"policy_version": "a policy with words"},
        {"screening_ref": "ada@example.org"},
        {"status_url": "https://example.org/verify?email=ada@example.org"},
        {"status_url": "javascript:alert(1)"},
        {"title": "ada-at-the-beach.jpg"},
        {"when": datetime(2026, 11, 20)},
        {"not_screened": ("two words",)},
        {"consent_refs": (ConsentRef("cns_1", "face_donor", ledger_index=-1),)},
    ],
)
def test_a_request_that_is_not_opaque_or_not_complete_is_refused(request_for, changes):
    with pytest.raises(ManifestError) as caught:
        request_for("image/jpeg", **changes)
    assert caught.value.code == "manifest_invalid"


def test_the_place_in_the_ledger_is_said_where_there_is_one(sign, dev_authority):
    refs = (ConsentRef("cns_ada1", "face_donor", ledger_index=17), ConsentRef("cns_ben1", "target_person"))
    path, _ = sign("image/jpeg", consent_refs=refs)
    consent = active(path, "image/jpeg", dev_authority.root_pem)["assertions"]["io.imprimatur.consent"]
    assert [each.get("ledger_index") for each in consent["records"]] == [17, None]


def test_a_format_without_a_manifest_is_refused(request_for):
    with pytest.raises(ManifestError) as caught:
        replace(request_for("image/jpeg"), mime="video/x-matroska")
    assert caught.value.code == "manifest_format"


def test_a_change_of_format_is_recorded_as_an_action(sign):
    _, signed = sign("image/png", target=IngredientFile("image/jpeg"))
    assert [action.action for action in signed.credentials.actions][-1] == "c2pa.transcoded"


def test_no_thumbnail_no_file_name_and_no_metadata_of_an_input_is_published(sign, dev_authority, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "CameraMakerOfAda"
    exif[0x9003] = "2020:01:02 03:04:05"
    exif.get_ifd(0x8825)[1] = "N"
    with Image.open(ROOT / "tests" / "samples" / "grace_hopper.jpg") as picture:
        picture.convert("RGB").save(tmp_path / "ada-lovelace-private.jpg", exif=exif, comment=b"CommentOfAda")
    photo = inspected(tmp_path / "ada-lovelace-private.jpg")
    path, signed = sign("image/jpeg", target=photo, sources=(photo, photo))
    published = path.read_bytes() + signed.store
    for secret in (b"lovelace", b"CameraMakerOfAda", b"2020:01:02", b"CommentOfAda", b"thumbnail", b"plain.jpg"):
        assert secret not in published
    assert os.fsencode(tmp_path) not in published
    # A thumbnail would be a second picture inside the file.
    assert published.count(b"\xff\xd8\xff") == 1
    manifest = active(path, "image/jpeg", dev_authority.root_pem)
    assert not [label for label in manifest["assertions"] if "thumbnail" in label or "metadata" in label]


def test_the_instance_ids_of_the_inputs_are_new_in_every_manifest(sign, dev_authority):
    seen = set()
    for name in ("one", "two"):
        path, _ = sign("image/jpeg", name=name)
        assertions = active(path, "image/jpeg", dev_authority.root_pem)["assertions"]
        seen |= {data["instanceID"] for label, data in assertions.items() if label.startswith("c2pa.ingredient")}
    assert len(seen) == 4


def test_a_destination_that_exists_is_never_touched(plain_media, request_for, dev_authority, tmp_path):
    taken = tmp_path / "taken.jpg"
    taken.write_bytes(b"precious")
    for place in (taken, plain_media["image/jpeg"]):
        before = place.read_bytes()
        with pytest.raises(ManifestError) as caught:
            sign_file(plain_media["image/jpeg"], place, request_for("image/jpeg"), dev_authority.signer())
        assert caught.value.code == "manifest_destination"
        assert place.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken.jpg"]


def test_a_key_service_that_fails_is_named_and_leaves_no_file(plain_media, request_for, dev_authority, tmp_path):
    def outage(data: bytes) -> bytes:
        raise ConnectionError("key service: quota exceeded")

    chain = dev_authority.signer().chain_pem
    with pytest.raises(SignerError) as caught:
        sign_file(
            plain_media["image/jpeg"],
            tmp_path / "out.jpg",
            request_for("image/jpeg"),
            CallbackSigner(chain, "es256", outage),
        )
    assert caught.value.code == "signer_failed"
    assert "quota exceeded" in caught.value.detail
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert list(tmp_path.iterdir()) == []


def test_a_signature_by_the_wrong_key_is_refused_and_leaves_no_file(plain_media, request_for, dev_authority, tmp_path):
    chain = dev_authority.signer().chain_pem
    with pytest.raises(ManifestError) as caught:
        sign_file(
            plain_media["image/jpeg"],
            tmp_path / "out.jpg",
            request_for("image/jpeg"),
            CallbackSigner(chain, "es256", lambda data: b"\x01" * 64),
        )
    assert caught.value.code in ("manifest_signing", "manifest_verification")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_not_trusted_under_the_given_anchors_is_removed(
    plain_media, request_for, dev_authority, other_authority, tmp_path
):
    with pytest.raises(ManifestError) as caught:
        sign_file(
            plain_media["image/jpeg"],
            tmp_path / "out.jpg",
            request_for("image/jpeg"),
            other_authority.signer(),
            anchors_pem=dev_authority.root_pem,
        )
    assert caught.value.code == "manifest_verification"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b"not a picture at all, but long enough to be one" * 4])
def test_something_that_is_not_media_is_not_signed(request_for, dev_authority, tmp_path, content):
    source = tmp_path / "in.jpg"
    if content is not None:
        source.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ManifestError):
        sign_file(source, tmp_path / "out.jpg", request_for("image/jpeg"), dev_authority.signer())
    assert sorted(tmp_path.iterdir()) == before


def test_signing_works_in_a_process_that_was_forked_after_signing(sign, dev_authority):
    sign("image/jpeg", name="parent")
    child = os.fork()
    if child == 0:
        try:
            _, signed = sign("image/png", name="child")
            os._exit(0 if signed.credentials.state == "trusted" else 3)
        except BaseException:
            os._exit(4)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_the_moment_of_the_edit_is_what_the_request_says(sign):
    moment = datetime(2026, 5, 3, 12, 30, tzinfo=UTC) + timedelta(seconds=5)
    _, signed = sign("image/jpeg", when=moment)
    assert (signed.credentials.signed_at, signed.credentials.time_source) == ("2026-05-03T12:30:05+00:00", "claimed")


def test_the_version_in_the_claim_is_the_version_of_the_product():
    assert f'version = "{PRODUCT_VERSION}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_a_request_is_made_by_keyword_so_that_no_two_texts_are_swapped():
    with pytest.raises(TypeError):
        ManifestRequest("image/jpeg")  # type: ignore[misc]


@pytest.mark.parametrize("mime", FORMATS)
def test_the_manifest_keeps_the_rules_of_the_conformance_programme(sign, dev_authority, plain_media, tmp_path, mime):
    """The rules of "asset rubric, conformance 0.2, specification 2.4" that a manifest like ours can break."""
    marked = tmp_path / "marked.jpg"
    marked.write_bytes(foreign(plain_media["image/jpeg"].read_bytes(), dev_authority, "trainedAlgorithmicMedia"))
    path, _ = sign(mime, target=inspected(marked))
    manifest = active(path, mime, dev_authority.root_pem)
    claim, assertions = manifest["claim.v2"], manifest["assertions"]
    labels = {label.split("__")[0] for label in assertions}
    boxed = mime in ("image/avif", "video/mp4", "video/quicktime")
    binding = "c2pa.hash.bmff.v3" if boxed else "c2pa.hash.data"
    assert labels == {
        "c2pa.actions.v2",
        "c2pa.ingredient.v3",
        "c2pa.soft-binding",
        "cawg.training-mining",
        "io.imprimatur.consent",
        binding,
    }
    assert "url" not in assertions[binding]
    assert "specVersion" not in claim
    created = [item["url"] for item in claim["created_assertions"]]
    assert len(created) == len(assertions)
    assert next(url for url in created if "c2pa.actions" in url).endswith("c2pa.actions.v2")
    actions = assertions["c2pa.actions.v2"]["actions"]
    assert {name for action in actions for name in action.get("parameters", {})} == {"ingredients"}
    exempt = {"c2pa.opened", "c2pa.placed", "c2pa.watermarked.bound", "c2pa.transcoded"}
    assert all("digitalSourceType" in action for action in actions if action["action"] not in exempt)
    for ingredient in (assertions[label] for label in assertions if label.startswith("c2pa.ingredient")):
        assert ("activeManifest" in ingredient) == ("validationResults" in ingredient)
        assert not {"activeManifest", "digitalSourceType"} <= set(ingredient)
    assert manifest["validationResults"]["failure"] == []
