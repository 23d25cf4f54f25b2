"""The log's public addresses: what they answer proves itself, and what they cannot answer has a code and a sentence."""

from __future__ import annotations

import pytest
from django.db import transaction

from consent import ledger
from consent.ledger import house, notes, tree

pytestmark = pytest.mark.django_db


@pytest.fixture
def filled() -> list[ledger.NewEntry]:
    new = [ledger.NewEntry("audit", "noted", {"number": number}) for number in range(300)]
    for at in range(0, 300, 100):
        with transaction.atomic():
            ledger.append_many(new[at : at + 100])
        ledger.sequence()
    return new


def _head(client) -> notes.Checkpoint:
    answer = client.get("/log/checkpoint")
    assert answer["Content-Type"].startswith("text/plain")
    keys = [notes.Verifier.parse(line) for line in client.get("/log/key").content.decode().splitlines()]
    return notes.open_checkpoint(answer.content.decode(), keys)


def test_a_stranger_can_check_a_leaf_from_the_answers_alone(filled, client) -> None:
    head = _head(client)
    leaf = client.get("/log/entries?start=17&end=18").json()["entries"][0].encode()
    for query in (f"leaf={tree.leaf_hash(leaf).hex()}", "index=17", "index=17&size=300"):
        found = client.get(f"/log/proof?{query}").json()
        path = [bytes.fromhex(step) for step in found["path"]]
        assert found["leaf"].encode() == leaf
        assert (found["index"], found["size"]) == (17, head.size)
        assert tree.verify_inclusion(tree.leaf_hash(leaf), 17, head.size, path, head.root)


def test_a_stranger_can_check_that_the_log_only_grew(filled, client) -> None:
    old = _head(client)
    with transaction.atomic():
        ledger.append("audit", "noted", {"number": 301})
    ledger.sequence()
    new = _head(client)
    found = client.get(f"/log/consistency?from={old.size}&to={new.size}").json()
    path = [bytes.fromhex(step) for step in found["path"]]
    assert tree.verify_consistency(old.size, new.size, old.root, new.root, path)


def test_all_leaves_come_in_pages_and_give_the_signed_root(filled, client) -> None:
    hashes: list[bytes] = []
    while len(hashes) < 300:
        found = client.get(f"/log/entries?start={len(hashes)}&end={len(hashes) + 128}").json()
        hashes += [tree.leaf_hash(leaf.encode()) for leaf in found["entries"]]
        assert found["end"] == len(hashes)
    assert tree.root_of(hashes) == _head(client).root


def test_what_never_changes_may_be_kept(filled, client) -> None:
    for address, kept in (
        ("/log/entries?start=0&end=10", True),
        ("/log/proof?index=3&size=200", True),
        ("/log/consistency?from=3&to=200", True),
        ("/log/checkpoint", False),
        ("/log/entries?start=290&end=400", False),
        ("/log/proof?index=3", False),
    ):
        answer = client.get(address)
        assert answer.status_code == 200, answer.content
        assert ("immutable" in answer["Cache-Control"]) is kept
        assert client.get(address, headers={"If-None-Match": answer["ETag"]}).status_code == 304
        assert answer["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("proof", 400, "log_query_invalid"),
        ("proof?leaf=zz", 400, "log_query_invalid"),
        (f"proof?leaf={'0' * 64}&index=1", 400, "log_query_invalid"),
        (f"proof?leaf={'0' * 64}", 404, "log_leaf_unknown"),
        ("proof?index=300", 404, "log_leaf_unknown"),
        ("proof?index=1&size=301", 404, "log_size_unknown"),
        ("proof?index=1&size=0", 404, "log_size_unknown"),
        ("proof?index=-1", 400, "log_query_invalid"),
        ("proof?index=99999999999999999999999", 400, "log_query_invalid"),
        ("proof?index=1&index=2", 400, "log_query_invalid"),
        ("proof?index=1&sise=2", 400, "log_query_invalid"),
        ("proof?index=%00", 400, "log_query_invalid"),
        ("consistency?from=5", 400, "log_query_invalid"),
        ("consistency?from=5&to=4", 400, "log_size_unknown"),
        ("consistency?from=5&to=4000", 404, "log_size_unknown"),
        ("entries?start=5&end=5", 400, "log_query_invalid"),
        ("entries?start=300&end=301", 404, "log_size_unknown"),
        ("checkpoint?x=1", 400, "log_query_invalid"),
        ("nothing", 404, "not_found"),
    ],
)
def test_what_cannot_be_answered_is_a_problem_with_a_code(filled, client, address: str, status: int, code: str) -> None:
    answer = client.get(f"/log/{address}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer["Content-Type"] == "application/problem+json"


def test_an_empty_log_says_so(client) -> None:
    for address in ("checkpoint", "proof?index=0", "entries?start=0&end=1", "consistency?from=0&to=1"):
        answer = client.get(f"/log/{address}")
        assert answer.status_code == 404
        assert answer.json()["code"] in {"log_empty", "log_size_unknown"}


def test_an_address_that_asks_too_often_waits(filled, client) -> None:
    codes = {client.get("/log/checkpoint").status_code for _ in range(241)}
    assert codes == {200, 429}


def test_no_other_method_is_answered(client) -> None:
    assert client.post("/log/checkpoint").status_code == 405


def test_the_keys_of_the_house_are_public_and_only_those(client) -> None:
    text = client.get("/log/key").content.decode()
    assert text.splitlines()[0] == house.signer().verifier.text
    assert "PRIVATE" not in text
