"""An input's own manifest: what of it travels on in the manifest of the output, and what must not."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import c2pa
import pytest
from PIL import Image

from tests.watermark.provenance.strangers import TYPE, foreign, inspected
from watermark.credentials import Credentials
from watermark.credentials_reader import closed_settings
from watermark.manifest import read
from watermark.manifest_request import IngredientFile
from watermark.native_signing import MAX_STORE, NativeSigningError

AUTHOR = {
    "label": "stds.schema-org.CreativeWork",
    "data": {"@context": "https://schema.org", "@type": "CreativeWork", "author": [{"name": "AdaAtHome"}]},
}
METADATA = {
    "label": "c2pa.metadata",
    "data": {"@context": {"exif": "http://ns.adobe.com/exif/1.0/"}, "exif:GPSLatitude": "39,21.102N"},
    "kind": "Json",
}


def manifests(data: bytes, mime: str, anchors: str) -> list[dict]:
    """All manifests of a file, the active one first, as the conformance programme's JSON (crJSON) shows them."""
    with c2pa.Context.from_dict(closed_settings(anchors)) as context:
        return json.loads(c2pa.Reader(mime, io.BytesIO(data), context=context).crjson())["manifests"]


def parent(path: Path, mime: str, anchors: str) -> dict:
    """The ingredient assertion of the target."""
    assertions = manifests(path.read_bytes(), mime, anchors)[0]["assertions"]
    found = [each for each in assertions.values() if each.get("relationship") == "parentOf"]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def written(tmp_path):
    """Bytes as a file that the media child has looked at."""

    def write(data: bytes, mime: str = "image/jpeg", name: str = "input") -> IngredientFile:
        path = tmp_path / name
        path.write_bytes(data)
        return inspected(path, mime)

    return write


@pytest.mark.parametrize("source_type", ["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"])
@pytest.mark.parametrize(
    "mime", ["image/jpeg", "image/png", "image/webp", "image/avif", "video/mp4", "video/quicktime"]
)
def test_a_manifest_that_declares_ai_is_kept_whole_in_every_format(
    sign, plain_media, dev_authority, other_authority, written, mime, source_type
):
    data = foreign(plain_media[mime].read_bytes(), other_authority, source_type, mime=mime, thumbnail=False)
    target = written(data, mime)
    path, signed = sign(mime, target=target)
    assert signed.credentials.state == "trusted"
    (target_node, source) = signed.credentials.ingredients
    assert (target_node.relationship, target_node.state, target_node.label) == (
        "parentOf",
        "valid",
        target.credentials.label,
    )
    assert target_node.digital_source_types == (f"{TYPE}{source_type}",)
    assert (source.relationship, source.label) == ("componentOf", "")
    said = parent(path, mime, dev_authority.root_pem)
    assert said["activeManifest"]["url"].endswith(target.credentials.label)
    assert said["validationResults"]["activeManifest"]["success"]
    assert "digitalSourceType" not in said
    found = manifests(path.read_bytes(), mime, dev_authority.root_pem)
    whole = next(each for each in found if each["label"] == target.credentials.label)
    before = manifests(data, mime, "")[0]
    assert {name: whole[name] for name in ("claim.v2", "assertions")} == {
        name: before[name] for name in ("claim.v2", "assertions")
    }
    (entry,) = found[0]["assertions"]["io.imprimatur.consent"]["input_manifests"]
    assert (entry["ingredient"], entry["declares_ai"], entry["kept_whole"]) == ("target", True, True)


def test_an_output_of_ours_that_is_edited_again_keeps_its_own_manifest(sign, dev_authority, tmp_path):
    first, signed = sign("image/jpeg", name="first")
    again = inspected(first)
    path, second = sign("image/jpeg", name="second", target=again)
    assert second.credentials.state == "trusted"
    assert second.credentials.ingredients[0].label == signed.label
    assert b"cns_ada1" in path.read_bytes()


@pytest.mark.parametrize(
    ("secret", "changes"),
    [
        (b"thumbnail", {"thumbnail": True}),
        (b"AdaAtHome", {"assertions": [AUTHOR]}),
        (b"GPSLatitude", {"assertions": [METADATA]}),
        (b"org.somebody", {"assertions": [{"label": "org.somebody.unknown", "data": {"who": "knows"}}]}),
        (b"AdaAtHome", {"ingredients": [{"title": "x", "relationship": "inputTo", "description": "AdaAtHome"}]}),
    ],
)
def test_a_manifest_that_shows_or_names_somebody_does_not_travel_though_it_declares_ai(
    sign, plain_media, dev_authority, other_authority, written, secret, changes
):
    changes = {"thumbnail": False, **changes}
    actions = {
        "label": "c2pa.actions.v2",
        "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": f"{TYPE}trainedAlgorithmicMedia"}]},
    }
    changes["assertions"] = [actions, *changes.get("assertions", [])]
    if "ingredients" in changes:
        changes["ingredients"] = [{"format": "image/jpeg", **each} for each in changes["ingredients"]]
    data = foreign(plain_media["image/jpeg"].read_bytes(), other_authority, "", **changes)
    assert secret in data
    target = written(data)
    path, signed = sign("image/jpeg", target=target)
    published = path.read_bytes() + signed.store
    assert secret not in published
    assert b"Other tool" not in published
    assert published.count(b"\xff\xd8\xff") == 1
    # That AI had a part is still said, so that a program can read it.
    said = parent(path, "image/jpeg", dev_authority.root_pem)
    assert said["digitalSourceType"] == f"{TYPE}trainedAlgorithmicMedia"
    assert "activeManifest" not in said
    assert signed.credentials.ingredients[0].digital_source_types == (f"{TYPE}trainedAlgorithmicMedia",)


@pytest.mark.parametrize("damaged", [False, True])
def test_what_declares_no_ai_or_does_not_hold_is_only_referred_to_by_a_hash(
    sign, plain_media, dev_authority, other_authority, written, damaged
):
    plain = plain_media["image/jpeg"].read_bytes()
    camera = written(foreign(plain, other_authority, "digitalCapture", "AdaAtHome", thumbnail=False), name="camera")
    data = bytearray(foreign(plain, other_authority, "trainedAlgorithmicMedia", "AdaAI", thumbnail=False))
    if damaged:
        data[-500] ^= 0x55
    target = written(bytes(data), name="ai")
    path, _ = sign("image/jpeg", target=target, sources=(camera,))
    assert b"AdaAtHome" not in path.read_bytes()
    assert (b"AdaAI" in path.read_bytes()) == (not damaged)
    found = read(path, "image/jpeg", anchors_pem=dev_authority.root_pem)
    assert [node.state for node in found.ingredients] == ["none" if damaged else "valid", "none"]
    consent = manifests(path.read_bytes(), "image/jpeg", "")[0]["assertions"]["io.imprimatur.consent"]
    assert consent["input_manifests"] == [
        {
            "ingredient": label,
            "manifest_sha256": hashlib.sha256(file.credentials.label.encode()).hexdigest(),
            "declares_ai": declares_ai,
            "kept_whole": declares_ai and not damaged,
        }
        for label, file, declares_ai in (("target", target, True), ("source-1", camera, False))
    ]


def test_a_target_that_declared_ai_is_said_in_words_and_another_is_not(sign, plain_media, other_authority, written):
    said = []
    for name, source_type in (("ai", "trainedAlgorithmicMedia"), ("camera", "digitalCapture")):
        data = foreign(plain_media["image/jpeg"].read_bytes(), other_authority, source_type)
        _, signed = sign("image/jpeg", name=name, target=written(data, name=name))
        edited = next(action for action in signed.credentials.actions if action.action == "c2pa.edited")
        said.append("The input said of itself that AI had a part" in edited.description)
    assert said == [True, False]


def test_no_metadata_of_the_file_itself_comes_with_its_manifest(sign, plain_media, other_authority, written, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "CameraMakerOfAda"
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmpMM:DocumentID="xmp.did:OfAda" '
        b'xmpMM:InstanceID="xmp.iid:opaque"/></rdf:RDF></x:xmpmeta>'
    )
    with Image.open(plain_media["image/jpeg"]) as picture:
        picture.save(tmp_path / "with.jpg", exif=exif, xmp=xmp)
    data = foreign((tmp_path / "with.jpg").read_bytes(), other_authority, "trainedAlgorithmicMedia", thumbnail=False)
    assert b"xmp.did:OfAda" in data
    target = written(data)
    assert target.kept_whole
    path, signed = sign("image/jpeg", target=target)
    published = path.read_bytes() + signed.store
    for secret in (b"OfAda", b"CameraMaker"):
        assert secret not in published
    # The claim is that of the file, so its own instance id is in it; ours names the ingredient by another.
    assert published.count(b"xmp.iid:opaque") == signed.store.count(b"xmp.iid:opaque") * 2 == 2


@pytest.mark.parametrize(
    "where",
    [
        {"actions": [{"action": "c2pa.created", "digitalSourceType": "KIND"}]},
        {
            "actions": [{"action": "c2pa.created"}],
            "templates": [{"action": "c2pa.created", "digitalSourceType": "KIND"}],
        },
    ],
)
@pytest.mark.parametrize(
    ("kind", "declares"),
    [
        (f"{TYPE}trainedAlgorithmicMedia", True),
        (f"{TYPE}compositeWithTrainedAlgorithmicMedia", True),
        (f"{TYPE}compositeSynthetic", True),
        ("https://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia", True),
        (f"{TYPE}digitalCapture", False),
        (f"{TYPE}algorithmicMedia", False),
        (f"{TYPE}composite", False),
    ],
)
def test_ai_is_recognised_by_its_source_type_wherever_it_is_named(
    plain_media, other_authority, written, where, kind, declares
):
    data = json.loads(json.dumps(where).replace("KIND", kind))
    if "templates" in where:
        data["actions"][0]["digitalSourceType"] = f"{TYPE}digitalCapture"
    assertions = [{"label": "c2pa.actions.v2", "data": data}]
    file = written(foreign(plain_media["image/jpeg"].read_bytes(), other_authority, "", assertions=assertions))
    assert file.credentials.declares_ai == declares


def test_ai_is_recognised_in_an_ingredient_that_has_no_manifest_of_its_own():
    found = Credentials.from_dict(
        {
            "state": "valid",
            "ingredients": [
                {
                    "title": "",
                    "format": "",
                    "relationship": "parentOf",
                    "state": "none",
                    "digital_source_types": [f"{TYPE}compositeSynthetic"],
                }
            ],
        }
    )
    assert found.ai_source_type == f"{TYPE}compositeSynthetic"


def test_an_input_with_a_manifest_of_odd_size_stops_the_signing_with_a_reason(
    sign, plain_media, other_authority, written
):
    part = {"action": "c2pa.edited", "digitalSourceType": f"{TYPE}digitalCapture", "description": "x" * 60_000}
    padding = [part] * (MAX_STORE // 60_000 + 1)
    first = {"action": "c2pa.created", "digitalSourceType": f"{TYPE}trainedAlgorithmicMedia"}
    assertions = [{"label": "c2pa.actions.v2", "data": {"actions": [first, *padding]}}]
    data = foreign(plain_media["image/jpeg"].read_bytes(), other_authority, "", assertions=assertions, thumbnail=False)
    with pytest.raises(Exception, match="an input carries one of odd size") as caught:
        sign("image/jpeg", target=written(data))
    assert caught.value.code == "manifest_signing"
    assert isinstance(caught.value.__cause__, NativeSigningError)
