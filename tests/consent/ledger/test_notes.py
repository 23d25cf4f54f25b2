"""Checkpoints are C2SP signed notes: another implementation's note opens here, and no altered one does."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.ledger import notes
from consent.ledger.errors import LedgerError

# The example of Go's golang.org/x/mod/sumdb/note, from which C2SP's signed-note comes.
GO_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
GO_NOTE = f"{GO_TEXT}\n— PeterNeumann {GO_SIGNATURE}\n"

SIGNER = notes.Signer("example.org/log", bytes(range(32)))
HEAD = notes.Checkpoint("example.org/log", 17, bytes(range(32, 64)))
NOTE = SIGNER.sign(HEAD.text)


def test_the_note_of_another_implementation_opens_and_is_made_alike() -> None:
    verifier, signer = notes.Verifier.parse(GO_VERIFIER), notes.Signer.parse(GO_SIGNER)
    assert notes.open_note(GO_NOTE, [verifier]) == GO_TEXT
    assert signer.verifier == verifier
    assert signer.sign(GO_TEXT) == GO_NOTE
    assert (signer.text, verifier.text) == (GO_SIGNER, GO_VERIFIER)


def test_a_checkpoint_is_three_lines_and_a_signature() -> None:
    lines = NOTE.split("\n")
    assert lines[:4] == ["example.org/log", "17", base64.b64encode(HEAD.root).decode(), ""]
    assert lines[4].startswith("— example.org/log ")
    assert lines[5:] == [""]
    assert notes.open_checkpoint(NOTE, [SIGNER.verifier], "example.org/log") == HEAD


def test_signatures_of_others_do_not_disturb() -> None:
    witness = notes.Signer("witness.example", bytes(32))
    line = witness.sign(HEAD.text).split("\n\n")[1]
    assert notes.open_checkpoint(NOTE + line, [SIGNER.verifier]) == HEAD
    assert notes.open_checkpoint(NOTE + line, [SIGNER.verifier, witness.verifier]) == HEAD


def test_a_wrong_signature_of_a_known_key_refuses_the_note() -> None:
    witness = notes.Signer("witness.example", bytes(32))
    line = witness.sign("something else\n").split("\n\n")[1]
    with pytest.raises(LedgerError, match="wrong"):
        notes.open_checkpoint(NOTE + line, [SIGNER.verifier, witness.verifier])


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        HEAD.text,
        NOTE[:-1],
        NOTE.replace("17", "18"),
        NOTE.replace("— ", "- "),
        NOTE.replace("\n\n", "\n"),
        NOTE + "trailing\n",
        NOTE.replace("example.org/log ", "example.org/other "),
        "\x07" + NOTE,
        "x" * 100_000,
    ],
)
def test_what_is_no_signed_checkpoint_is_refused_with_a_sentence(note: str) -> None:
    with pytest.raises(LedgerError) as caught:
        notes.open_checkpoint(note, [SIGNER.verifier])
    assert caught.value.code == "note_invalid"


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_altered_note_opens_to_another_head(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(NOTE) - 1))
    char = data.draw(st.characters(codec="utf-8").filter(lambda new: new != NOTE[at]))
    altered = NOTE[:at] + char + NOTE[at + 1 :]
    with pytest.raises(LedgerError):
        notes.open_checkpoint(altered, [SIGNER.verifier])


@pytest.mark.parametrize("text", ["", "a+b", "a+00000000+AA==", GO_VERIFIER[:-4], GO_VERIFIER.replace("c7", "c8")])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(LedgerError):
        notes.Verifier.parse(text)
    with pytest.raises(LedgerError):
        notes.Signer.parse(text)


@pytest.mark.parametrize(
    "text", ["a\n1\n", "a\n01\nAAAA\n", "a\n-1\nAAAA\n", "\n1\n" + base64.b64encode(bytes(32)).decode() + "\n"]
)
def test_what_is_no_checkpoints_text_is_refused(text: str) -> None:
    with pytest.raises(LedgerError):
        notes.parse_checkpoint(text)
