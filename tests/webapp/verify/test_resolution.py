"""The C2PA Soft Binding Resolution API: every documented answer, against the OpenAPI document where it is at hand."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import c2pa
import cv2
import numpy as np
import pytest
from django.test import Client
from numpy.typing import NDArray

from tests.webapp.verify.conftest import Published, save
from watermark import image
from watermark.credentials import MARK_ALGORITHM
from watermark.credentials_reader import closed_settings
from webapp import keys_of_house, net
from webapp.asgi import body_limit
from webapp.jobs import repository
from webapp.jobs.models import Output
from webapp.verify import slots
from webapp.verify.lookup import FINGERPRINT_ALGORITHM
from webapp.verify.throttles import Lookups

pytestmark = pytest.mark.django_db

ROOT = "/c2pa/v1"
# Kept beside the repository, not in it.
NAME = "shared/reference/soft-binding-resolution-api-2.2.openapi.json"
DOCUMENT = next((each / NAME for each in Path(__file__).resolve().parents if (each / NAME).is_file()), None)
BINDING, CONTENT = f"{ROOT}/matches/byBinding", f"{ROOT}/matches/byContent"
ALGORITHMS = f"{ROOT}/services/supportedAlgorithms"


def encoded(mark: bytes) -> str:
    return base64.b64encode(mark).decode()


def ask(mark: bytes, **changes: Any) -> Any:
    return Client().get(BINDING, {"alg": MARK_ALGORITHM, "value": encoded(mark), **changes})


def send(content: bytes, mime: str = "image/jpeg", **query: str) -> Any:
    address = f"{CONTENT}?" + "&".join(f"{name}={value}" for name, value in query.items())
    return Client().post(address, content, content_type=mime)


def manifests_of(store: bytes) -> tuple[set[str], str]:
    """The labels of the manifests in a store, and the active one, as the SDK reads them."""
    with (
        c2pa.Context.from_dict(closed_settings("")) as context,
        c2pa.Reader("application/c2pa", io.BytesIO(store), context=context) as reader,
    ):
        parsed = json.loads(reader.json())
    return set(parsed["manifests"]), parsed["active_manifest"]


def found(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [match["manifestId"] for match in answer.json()["matches"]]


def test_a_binding_leads_to_its_manifest_by_get_and_by_post(grace_published: Published) -> None:
    label = grace_published.output.manifest_label
    assert ask(grace_published.mark).json() == {"matches": [{"manifestId": label, "similarityScore": 100}]}
    body = {"alg": MARK_ALGORITHM, "value": encoded(grace_published.mark), "more": "is ignored"}
    assert found(Client().post(f"{BINDING}?maxResults=1", body, content_type="application/json")) == [label]


def test_the_value_of_the_assertion_itself_and_other_spellings_are_understood(grace_published: Published) -> None:
    mark = b"\xfb\xff\xbf\xfb\xff\xbf\xfb\xff"  # all plus signs and slashes
    Output.objects.filter(pk=grace_published.output.pk).update(mark_id=mark)
    label = [grace_published.output.manifest_label]
    text = encoded(mark)
    assert "+" in text
    spellings = (text, text.replace("+", " "), text.rstrip("="), text.replace("+", "-").replace("/", "_"))
    for value in (*spellings, encoded(text.encode())):
        assert found(Client().get(BINDING, {"alg": MARK_ALGORITHM, "value": value})) == label, value


def test_an_unknown_id_has_no_match(grace_published: Published) -> None:
    assert found(ask(b"\0" * 8)) == []


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"alg": MARK_ALGORITHM},
        {"value": "AAAAAAAAAAA="},
        {"alg": MARK_ALGORITHM, "value": ""},
        {"alg": MARK_ALGORITHM, "value": "not base64!"},
        {"alg": MARK_ALGORITHM, "value": "AAAA"},
        {"alg": MARK_ALGORITHM, "value": "\x00"},
        {"alg": "com.adobe.trustmark.P", "value": "AAAAAAAAAAA="},
        {"alg": MARK_ALGORITHM, "value": "AAAAAAAAAAA=", "maxResults": "0"},
        {"alg": MARK_ALGORITHM, "value": "AAAAAAAAAAA=", "maxResults": "-1"},
        {"alg": MARK_ALGORITHM, "value": "AAAAAAAAAAA=", "maxResults": "ten"},
        {"alg": MARK_ALGORITHM, "value": "AAAAAAAAAAA=", "maxResults": "٣"},
    ],
)
def test_a_question_that_makes_no_sense_is_400(query: dict[str, str]) -> None:
    answer = Client().get(BINDING, query)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    body = {name: value for name, value in query.items() if name != "maxResults"}
    limit = f"?maxResults={query['maxResults']}" if "maxResults" in query else ""
    assert Client().post(BINDING + limit, body, content_type="application/json").status_code == 400


@pytest.mark.parametrize("body", ["[]", "3", '"text"', "{", '{"alg": 3, "value": []}', "[" * 100_000, ""])
def test_a_body_that_is_no_query_is_400(body: str) -> None:
    assert Client().post(BINDING, body, content_type="application/json").status_code == 400


def test_a_value_too_long_for_an_address_is_414_and_asked_to_be_posted() -> None:
    answer = ask(b"\0" * 5000)
    assert answer.status_code == 414
    assert "POST" in answer.json()["detail"]


def test_the_manifest_comes_as_the_bytes_that_were_stored(grace_published: Published) -> None:
    answer = Client().get(f"{ROOT}/manifests/{grace_published.output.manifest_label}")
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/c2pa"
    assert answer.content == grace_published.store
    assert f"/verify/o/{grace_published.output.pk}>" in answer["Link"]


def test_a_client_that_asks_for_that_type_by_name_gets_it(grace_published: Published) -> None:
    address = f"{ROOT}/manifests/{grace_published.output.manifest_label}"
    for accepted in ("application/c2pa", "text/html", "*/*"):
        assert Client().get(address, headers={"accept": accepted}).status_code == 200


def test_the_active_manifest_can_be_had_alone(publish: Callable[..., Published], grace: NDArray[np.uint8]) -> None:
    published = publish(grace)
    output = io.BytesIO()
    definition = {
        "claim_version": 2,
        "format": "image/png",
        "claim_generator_info": [{"name": "test", "version": "1"}],
        "assertions": [],
    }
    signer = keys_of_house.signer()
    with c2pa.Context.from_dict(closed_settings("")) as context, published.path.open("rb") as first:
        native = c2pa.Signer.from_callback(signer.sign, c2pa.C2paSigningAlg.ES256, signer.chain_pem, None)
        builder = c2pa.Builder(definition, context=context)
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
        builder.add_ingredient({"title": "first", "relationship": "parentOf"}, "image/png", first)
        with published.path.open("rb") as source:
            store = bytes(builder.sign(native, "image/png", source, output))
    inside, active = manifests_of(store)
    assert inside == {published.output.manifest_label, active}
    Output.objects.filter(pk=published.output.pk).update(manifest_store=store, manifest_label=active)
    address = f"{ROOT}/manifests/{active}"
    assert Client().get(address).content == store
    assert Client().get(f"{address}?returnActiveManifest=false").content == store
    alone = Client().get(f"{address}?returnActiveManifest=true").content
    assert manifests_of(alone) == ({active}, active)
    assert store.endswith(alone[-2000:])
    assert Client().get(f"{address}?returnActiveManifest=perhaps").status_code == 400


def test_an_unknown_manifest_is_404_and_a_bad_id_400(grace_published: Published) -> None:
    unknown = "urn:c2pa:00000000-0000-4000-8000-000000000000"
    for label in (unknown, f"{unknown}:imprimatur", unknown.replace("c2pa", "uuid")):
        assert Client().get(f"{ROOT}/manifests/{label}").status_code == 404
    long = "urn:c2pa:" + ":" * 300
    for label in ("x", "urn:c2pa:1", "urn:c2pa:%00", "%F0%9F%98%80", "a/b/c", long, f"{unknown}%00", f"{unknown} "):
        assert Client().get(f"{ROOT}/manifests/{label}").status_code == 400, label


def test_a_manifest_stays_findable_when_its_permission_ends(grace_published: Published) -> None:
    Output.objects.filter(pk=grace_published.output.pk).update(permission="withdrawn")
    assert len(found(ask(grace_published.mark))) == 1


def test_the_algorithms_are_named(grace_published: Published) -> None:
    assert Client().get(ALGORITHMS).json() == {
        "watermarks": [{"alg": MARK_ALGORITHM}],
        "fingerprints": [{"alg": FINGERPRINT_ALGORITHM}],
    }


def test_what_is_found_may_be_cached_and_is_not_sent_twice(grace_published: Published) -> None:
    for address in (
        f"{BINDING}?alg={MARK_ALGORITHM}&value={_url(grace_published.mark)}",
        f"{ROOT}/manifests/{grace_published.output.manifest_label}",
        ALGORITHMS,
    ):
        first = Client().get(address)
        assert "public" in first["Cache-Control"]
        assert "max-age=" in first["Cache-Control"]
        again = Client().get(address, headers={"if-none-match": first["ETag"]})
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
        assert Client().get(address, headers={"if-none-match": '"other"'}).status_code == 200


def _url(mark: bytes) -> str:
    return base64.urlsafe_b64encode(mark).decode().rstrip("=")


def test_web_pages_of_any_origin_may_ask(grace_published: Published) -> None:
    assert ask(grace_published.mark)["Access-Control-Allow-Origin"] == "*"
    asked = Client().options(CONTENT)
    assert asked.status_code == 204
    assert "POST" in asked["Access-Control-Allow-Methods"]


def test_a_stripped_copy_leads_to_the_very_manifest(grace_published: Published, tmp_path: Path) -> None:
    """Re-encoded, half the size, a fifth cut off: what a network makes of a published picture."""
    height, width = grace_published.rgb.shape[:2]
    cut = np.ascontiguousarray(grace_published.rgb[: round(height * 0.9), : round(width * 0.9)])
    half = cv2.resize(cut, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    for copy in (grace_published.rgb, half):
        path = save(tmp_path / "copy.jpg", copy, cv2.IMWRITE_JPEG_QUALITY, 80)
        answer = send(path.read_bytes())
        (label,) = found(answer)
        assert answer.json()["matches"][0]["similarityScore"] >= 80
        assert Client().get(f"{ROOT}/manifests/{label}").content == grace_published.store


def test_the_published_file_itself_matches_wholly(grace_published: Published) -> None:
    answer = send(grace_published.path.read_bytes(), "image/png")
    assert answer.json()["matches"] == [{"manifestId": grace_published.output.manifest_label, "similarityScore": 100}]


def test_a_mark_carried_over_to_another_picture_finds_nothing(
    grace_published: Published, astronaut: NDArray[np.uint8], tmp_path: Path
) -> None:
    forged = image.embed(astronaut, grace_published.mark, keys_of_house.mark_keys()[0])
    path = save(tmp_path / "forged.png", forged)
    assert found(send(path.read_bytes(), "image/png")) == []


def test_a_hint_helps_where_the_content_fits_and_only_there(
    grace_published: Published, grace: NDArray[np.uint8], astronaut: NDArray[np.uint8], tmp_path: Path
) -> None:
    """The unmarked original shows what was published, so an id known from elsewhere is enough."""
    hint = {"hintAlg": MARK_ALGORITHM, "hintValue": _url(grace_published.mark)}
    plain = save(tmp_path / "plain.png", grace).read_bytes()
    assert found(send(plain, "image/png")) == []
    assert found(send(plain, "image/png", **hint)) == [grace_published.output.manifest_label]
    other = save(tmp_path / "other.png", astronaut).read_bytes()
    assert found(send(other, "image/png", **hint)) == []
    foreign = {"hintAlg": "com.adobe.trustmark.P", "hintValue": "xyz"}
    assert found(send(plain, "image/png", **foreign)) == []


def test_the_search_can_be_narrowed_to_an_algorithm(grace_published: Published) -> None:
    content = grace_published.path.read_bytes()
    assert found(send(content, "image/png", alg=MARK_ALGORITHM)) == [grace_published.output.manifest_label]
    assert found(send(content, "image/png", alg="com.adobe.trustmark.P")) == []


def test_what_only_looks_alike_is_found_by_its_fingerprint_with_the_score_it_has(
    grace_published: Published, grace: NDArray[np.uint8], astronaut: NDArray[np.uint8], tmp_path: Path
) -> None:
    repository.record(grace_published.output)
    plain = save(tmp_path / "plain.jpg", grace, cv2.IMWRITE_JPEG_QUALITY, 80).read_bytes()
    for query in ({}, {"alg": FINGERPRINT_ALGORITHM}):
        answer = send(plain, **query)
        assert found(answer) == [grace_published.output.manifest_label]
        assert 75 <= answer.json()["matches"][0]["similarityScore"] <= 100
    assert found(send(plain, alg=MARK_ALGORITHM)) == []
    assert found(send(save(tmp_path / "other.jpg", astronaut).read_bytes())) == []


def test_the_type_named_does_not_matter_as_long_as_it_can_be_an_asset(grace_published: Published) -> None:
    for mime in ("image/jpeg", "application/octet-stream", "video/mp4"):
        assert len(found(send(grace_published.path.read_bytes(), mime))) == 1


@pytest.mark.parametrize(
    ("content", "mime"),
    [
        (b"hello", "text/plain"),
        (b"", "image/png"),
        (b"%PDF-1.7", "application/pdf"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 2000, "image/jpeg"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"a=b", "message/rfc822"),
    ],
)
def test_what_is_no_photo_or_video_is_415(content: bytes, mime: str) -> None:
    assert send(content, mime).status_code == 415


def test_an_asset_that_is_too_large_is_413(monkeypatch: pytest.MonkeyPatch) -> None:
    assert body_limit(CONTENT) == net.MEDIA_BYTES
    monkeypatch.setattr("webapp.verify.resolution.MEDIA_BYTES", 1000)
    assert send(b"x" * 1001).status_code == 413


def test_other_methods_and_addresses_are_said_to_be_none() -> None:
    assert Client().delete(BINDING).status_code == 405
    assert Client().get(CONTENT).status_code == 405
    answer = Client().get(f"{ROOT}/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_more_than_fits_at_once_and_too_often_is_429(
    grace_published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slots.slot(), slots.slot():
        answer = send(b"\xff\xd8\xff\xe0")
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) > 0
    monkeypatch.setattr(Lookups, "rate", "3/min")
    answers = [ask(grace_published.mark) for _ in range(4)]
    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert int(answers[-1]["Retry-After"]) > 0


def test_a_fault_of_ours_is_500_and_says_nothing_of_the_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("webapp.verify.lookup.by_binding", broken)
    client = Client(raise_request_exception=False)
    answer = client.get(BINDING, {"alg": MARK_ALGORITHM, "value": "AAAAAAAAAAA="})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert b"secret" not in answer.content


@pytest.mark.skipif(DOCUMENT is None, reason="the C2PA OpenAPI document is not at hand")
def test_all_answers_are_as_the_openapi_document_has_them(grace_published: Published, samples: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert DOCUMENT is not None
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    mine = {
        ("/matches/byBinding", "get"): [ask(grace_published.mark), ask(b"\0" * 8), ask(b""), ask(b"\0" * 5000)],
        ("/matches/byBinding", "post"): [
            Client().post(BINDING, body, content_type="application/json")
            for body in ({"alg": MARK_ALGORITHM, "value": encoded(grace_published.mark)}, {})
        ],
        ("/matches/byContent", "post"): [
            send(grace_published.path.read_bytes(), "image/png"),
            send((samples / "astronaut.jpg").read_bytes()),
            send(b"text", "text/plain"),
        ],
        ("/manifests/{manifestId}", "get"): [
            Client().get(f"{ROOT}/manifests/{label}")
            for label in (grace_published.output.manifest_label, "bad", "urn:c2pa:00000000-0000-4000-8000-000000000000")
        ],
        ("/services/supportedAlgorithms", "get"): [Client().get(ALGORITHMS)],
    }
    documented = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert documented == set(mine)
    for (path, method), answers in mine.items():
        responses = document["paths"][path][method]["responses"]
        for answer in answers:
            assert str(answer.status_code) in responses, (path, method, answer.status_code)
            kinds = responses[str(answer.status_code)]["content"]
            if not kinds:
                continue
            kind = answer["Content-Type"].split(";")[0]
            assert kind in kinds
            if reference := kinds[kind].get("schema", {}).get("$ref"):
                schema = document["components"]["schemas"][reference.rsplit("/", 1)[-1]]
                jsonschema.validate(answer.json(), _readable(schema))
    for (path, method), answers in mine.items():
        wanted = set(document["paths"][path][method]["responses"]) - {"500"}
        assert {str(answer.status_code) for answer in answers} == wanted, (path, method)


def _readable(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without a slip of the document: it wants of each watermark that it contains the lists themselves."""
    lists = schema.get("properties", {})
    if "watermarks" in lists:
        items = {name: rule for name, rule in lists["watermarks"]["items"].items() if name != "oneOf"}
        return {**schema, "properties": {**lists, "watermarks": {**lists["watermarks"], "items": items}}}
    return schema
