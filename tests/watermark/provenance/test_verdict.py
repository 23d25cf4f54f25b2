"""The verdict: every cell of the table, and an answer for every combination of evidence."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from typing import get_args

import pytest

from watermark.credentials import Action, Credentials, Ingredient
from watermark.verdict import (
    Code,
    ContentEvidence,
    Evidence,
    MarkEvidence,
    OutputRecord,
    PossibleMatch,
    Reason,
    Verdict,
    record_to_compare,
    verdict,
)
from watermark.verdict_words import SEVERITY

MARK, OTHER_MARK, STRANGE_MARK = b"\x01" * 8, b"\x02" * 8, b"\x03" * 8
LABEL, OTHER_LABEL = "urn:c2pa:ours", "urn:c2pa:ours-2"
CLAIM, OTHER_CLAIM, FORGED_CLAIM = "1" * 64, "2" * 64, "f" * 64
AI = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
OUTPUT = OutputRecord(
    output_id="out_1",
    mark_id=MARK,
    manifest_label=LABEL,
    state="in_force",
    published_at=datetime(2026, 5, 3, 10, tzinfo=UTC),
    livemode=True,
    sha256="a" * 64,
    claim_sha256=CLAIM,
)
OTHER = replace(
    OUTPUT,
    output_id="out_2",
    mark_id=OTHER_MARK,
    manifest_label=OTHER_LABEL,
    sha256="b" * 64,
    claim_sha256=OTHER_CLAIM,
)


@dataclass(frozen=True)
class Book:
    """Records in memory."""

    outputs: tuple[OutputRecord, ...]

    def by_mark(self, mark_id: bytes) -> OutputRecord | None:
        return next((output for output in self.outputs if output.mark_id == mark_id), None)

    def by_manifest(self, label: str) -> OutputRecord | None:
        return next((output for output in self.outputs if output.manifest_label == label), None)


def ours(**changes) -> Credentials:
    values = {
        "state": "trusted",
        "label": LABEL,
        "issuer": "Imprimatur",
        "mark_ids": (MARK,),
        "is_ours": True,
        "claim_sha256": CLAIM,
        "bytes_match": True,
        "signature_valid": True,
        "signature_trusted": True,
    }
    return Credentials(**(values | changes))


CHANGED = {"state": "invalid", "bytes_match": False, "failures": ("assertion.dataHash.mismatch",)}
EXPIRED = {
    "state": "invalid",
    "is_ours": False,
    "claim_sha256": "",
    "signature_trusted": False,
    "failures": ("signingCredential.untrusted", "signingCredential.expired"),
}
MANIFESTS = {
    "absent": None,
    "none": Credentials("none"),
    "remote_only": Credentials("remote_only", remote_url="http://127.0.0.1:9/x"),
    "broken": Credentials("broken"),
    "ours": ours(),
    "ours_other_output": ours(label=OTHER_LABEL, mark_ids=(OTHER_MARK,), claim_sha256=OTHER_CLAIM),
    "ours_without_record": ours(label="urn:c2pa:forgotten"),
    "ours_changed": ours(**CHANGED),
    "ours_changed_other_output": ours(label=OTHER_LABEL, mark_ids=(OTHER_MARK,), claim_sha256=OTHER_CLAIM, **CHANGED),
    "forged": ours(claim_sha256=FORGED_CLAIM),
    "forged_changed": ours(claim_sha256=FORGED_CLAIM, **CHANGED),
    "ours_expired": ours(**EXPIRED),
    "claims_our_label": Credentials("invalid", label=LABEL, failures=("claimSignature.mismatch",)),
    "other_trusted": Credentials(
        "trusted", label="urn:c2pa:x", issuer="Camera Maker", bytes_match=True, signature_trusted=True
    ),
    "other_unknown": Credentials("valid", label="urn:c2pa:y", issuer="Somebody", digital_source_types=(AI,)),
    "other_invalid": Credentials("invalid", label="urn:c2pa:z", failures=("assertion.dataHash.mismatch",)),
    "from_our_records": ours(recovered=True, bytes_match=False),
}
MARKS = {"none": None, "same": MARK, "other": OTHER_MARK, "strange": STRANGE_MARK}
CONTENT = {"match": True, "mismatch": False, "not_compared": None}
STATES = ("in_force", "withdrawn", "taken_down", "a state of tomorrow")
FILES = {"unknown": "", "published": "a" * 64, "something_else": "c" * 64}


def judge(
    manifest: str = "absent", mark: str = "none", content: str = "match", state: str = "in_force", file: str = "unknown"
) -> Verdict:
    book = Book((replace(OUTPUT, state=state, permission_changed_at=datetime(2026, 6, 1, tzinfo=UTC)), OTHER))
    evidence = Evidence(
        credentials=MANIFESTS[manifest],
        mark=MarkEvidence(MARKS[mark], "2026", 30.0, -9.4) if MARKS[mark] else None,
        file_sha256=FILES[file],
    )
    record = record_to_compare(evidence, book)
    if record is not None and CONTENT[content] is not None:
        evidence = replace(evidence, content=ContentEvidence(record.output_id, CONTENT[content], 12, 0.98))
    return verdict(evidence, book)


# DESIGN.md section 5, row by row, and the cells between its rows. Content and permission "*" stand for every value.
TABLE = [
    # manifest, mark, content, permission -> code, reason
    ("ours", "same", "*", "in_force", "ours_intact", ""),
    ("ours", "none", "*", "in_force", "ours_intact", "mark_not_read"),
    ("ours", "*", "*", "withdrawn", "ours_withdrawn", "withdrawn"),
    ("ours", "*", "*", "taken_down", "ours_withdrawn", "taken_down"),
    ("ours", "*", "*", "a state of tomorrow", "ours_withdrawn", "withdrawn"),
    ("ours", "other", "*", "in_force", "disagree", "other_id"),
    ("ours", "strange", "*", "in_force", "disagree", "other_id"),
    ("ours_without_record", "*", "*", "*", "disagree", "no_record"),
    ("ours_changed", "same", "match", "in_force", "ours_changed", ""),
    ("ours_changed", "same", "match", "withdrawn", "ours_withdrawn", "withdrawn"),
    ("ours_changed", "same", "match", "taken_down", "ours_withdrawn", "taken_down"),
    ("ours_changed", "same", "mismatch", "*", "disagree", "content_mismatch"),
    ("ours_changed", "same", "not_compared", "*", "disagree", "not_compared"),
    ("ours_changed", "none", "*", "*", "disagree", "mark_missing"),
    ("ours_changed", "other", "*", "*", "disagree", "other_id"),
    ("ours_changed", "strange", "*", "*", "disagree", "no_record"),
    ("ours_changed_other_output", "same", "*", "*", "disagree", "other_id"),
    ("forged", "*", "*", "*", "disagree", "not_our_signature"),
    ("forged_changed", "*", "*", "*", "disagree", "not_our_signature"),
    ("claims_our_label", "same", "match", "in_force", "ours_changed", ""),
    ("claims_our_label", "same", "mismatch", "*", "disagree", "content_mismatch"),
    ("claims_our_label", "other", "*", "*", "disagree", "other_id"),
    ("claims_our_label", "none", "*", "*", "other_invalid", ""),
    ("ours_expired", "same", "match", "in_force", "ours_recovered", "certificate_expired"),
    ("ours_expired", "same", "match", "withdrawn", "ours_withdrawn", "withdrawn"),
    ("ours_expired", "none", "*", "*", "other_invalid", ""),
    *(
        (manifest, "same", content, state, code, reason)
        for manifest in (
            "absent",
            "none",
            "remote_only",
            "broken",
            "other_trusted",
            "other_unknown",
            "other_invalid",
            "from_our_records",
        )
        for content, state, code, reason in (
            ("match", "in_force", "ours_recovered", ""),
            ("match", "withdrawn", "ours_withdrawn", "withdrawn"),
            ("match", "taken_down", "ours_withdrawn", "taken_down"),
            ("match", "a state of tomorrow", "ours_withdrawn", "withdrawn"),
            ("mismatch", "*", "disagree", "content_mismatch"),
            ("not_compared", "*", "disagree", "not_compared"),
        )
    ),
    # The mark of another output of ours, which is in force whatever became of the first.
    *(
        (manifest, "other", content, "*", code, reason)
        for manifest in ("*foreign", "from_our_records")
        for content, code, reason in (
            ("match", "ours_recovered", ""),
            ("mismatch", "disagree", "content_mismatch"),
            ("not_compared", "disagree", "not_compared"),
        )
    ),
    ("*foreign", "strange", "*", "*", "disagree", "no_record"),
    ("from_our_records", "strange", "*", "*", "disagree", "no_record"),
    ("ours_changed", "same", "match", "a state of tomorrow", "ours_withdrawn", "withdrawn"),
    ("ours_changed_other_output", "none", "*", "*", "disagree", "mark_missing"),
    ("ours_changed_other_output", "other", "match", "*", "ours_changed", ""),
    ("ours_changed_other_output", "other", "mismatch", "*", "disagree", "content_mismatch"),
    ("ours_changed_other_output", "other", "not_compared", "*", "disagree", "not_compared"),
    ("ours_changed_other_output", "strange", "*", "*", "disagree", "no_record"),
    ("ours_other_output", "none", "*", "*", "ours_intact", "mark_not_read"),
    ("ours_other_output", "other", "*", "*", "ours_intact", ""),
    ("ours_other_output", "same", "*", "*", "disagree", "other_id"),
    ("ours_other_output", "strange", "*", "*", "disagree", "other_id"),
    ("claims_our_label", "same", "match", "withdrawn", "ours_withdrawn", "withdrawn"),
    ("claims_our_label", "same", "match", "taken_down", "ours_withdrawn", "taken_down"),
    ("claims_our_label", "same", "match", "a state of tomorrow", "ours_withdrawn", "withdrawn"),
    ("claims_our_label", "same", "not_compared", "*", "disagree", "not_compared"),
    ("claims_our_label", "strange", "*", "*", "disagree", "no_record"),
    ("ours_expired", "same", "match", "taken_down", "ours_withdrawn", "taken_down"),
    ("ours_expired", "same", "match", "a state of tomorrow", "ours_withdrawn", "withdrawn"),
    ("ours_expired", "same", "mismatch", "*", "disagree", "content_mismatch"),
    ("ours_expired", "same", "not_compared", "*", "disagree", "not_compared"),
    ("ours_expired", "other", "*", "*", "disagree", "other_id"),
    ("ours_expired", "strange", "*", "*", "disagree", "no_record"),
    ("absent", "none", "*", "*", "nothing_found", ""),
    ("none", "none", "*", "*", "nothing_found", ""),
    ("from_our_records", "none", "*", "*", "nothing_found", ""),
    ("remote_only", "none", "*", "*", "other_unknown", "remote_only"),
    ("broken", "none", "*", "*", "other_invalid", "broken"),
    ("other_trusted", "none", "*", "*", "other_trusted", ""),
    ("other_unknown", "none", "*", "*", "other_unknown", ""),
    ("other_invalid", "none", "*", "*", "other_invalid", ""),
]
FOREIGN = ("absent", "none", "remote_only", "broken", "other_trusted", "other_unknown", "other_invalid")


def cells(manifest: str, mark: str, content: str, state: str):
    return product(
        FOREIGN if manifest == "*foreign" else (manifest,),
        MARKS if mark == "*" else (mark,),
        CONTENT if content == "*" else (content,),
        STATES if state == "*" else (state,),
    )


@pytest.mark.parametrize(("manifest", "mark", "content", "state", "code", "reason"), TABLE)
def test_the_table_of_the_design(manifest, mark, content, state, code, reason):
    for cell in cells(manifest, mark, content, state):
        found = judge(*cell)
        assert (found.code, found.reason) == (code, reason), cell


def test_the_table_has_every_cell_and_none_twice():
    counted = Counter(cell for row in TABLE for cell in cells(*row[:4]))
    assert set(counted) == set(product(MANIFESTS, MARKS, CONTENT, STATES))
    assert {cell for cell, times in counted.items() if times > 1} == set()


def test_what_only_looks_alike_is_shown_and_decides_nothing():
    alike = (PossibleMatch(LABEL, "in_force", 0), PossibleMatch(OTHER_LABEL, "withdrawn", 31, 4.0))
    book = Book((OUTPUT, OTHER))
    for manifest, mark in product(MANIFESTS, MARKS):
        evidence = Evidence(MANIFESTS[manifest], MarkEvidence(MARKS[mark]) if MARKS[mark] else None)
        without, found = verdict(evidence, book), verdict(replace(evidence, possible=alike), book)
        assert (found.code, found.reason, found.output) == (without.code, without.reason, without.output)
        assert [each["pdq_distance"] for each in found.to_json()["possible_matches"]] == [0, 31]
        assert ("That is no proof" in found.sentence) == (not found.code.startswith("ours_"))
        assert without.to_json()["possible_matches"] == []


def test_a_file_that_cannot_be_read_is_unreadable_whatever_else_was_found():
    for manifest, mark in product(MANIFESTS, MARKS):
        evidence = Evidence(MANIFESTS[manifest], MarkEvidence(MARKS[mark]) if MARKS[mark] else None)
        found = verdict(replace(evidence, file_sha256="a" * 64, unreadable="It is damaged."), Book((OUTPUT, OTHER)))
        assert (found.code, found.reason, found.output) == ("unreadable", "", None)
        assert "It is damaged." in found.sentence


EVERYTHING = list(product(MANIFESTS, MARKS, CONTENT, STATES, FILES))


def test_every_combination_has_an_answer_with_words_and_a_report():
    seen = Counter()
    for cell in EVERYTHING:
        found = judge(*cell)
        assert found.code in get_args(Code)
        assert found.reason in get_args(Reason)
        assert found.headline
        assert found.sentence
        assert found.severity == SEVERITY[found.code]
        assert json.loads(json.dumps(found.to_json()))["code"] == found.code
        seen[found.code] += 1
    assert set(seen) == set(get_args(Code)) - {"unreadable"}


def test_no_answer_ever_calls_a_picture_authentic():
    for cell in EVERYTHING:
        found = judge(*cell)
        said = f"{found.headline} {found.sentence}"
        assert not re.search(r"authentic|genuine|verified|original|not (edited|manipulated)", said, re.IGNORECASE), said
        if re.search(r"\breal\b", said):
            assert "does not mean it is real" in said


def test_permission_that_is_not_in_force_is_never_called_intact_changed_or_recovered():
    for manifest, mark, content, state, file in EVERYTHING:
        found = judge(manifest, mark, content, state, file)
        if state != "in_force" and found.output is not None and found.output.output_id == "out_1":
            assert found.code == "ours_withdrawn"
            assert "Please do not share" in found.headline


def test_changed_bytes_are_never_called_intact():
    for manifest, mark, content, state, file in EVERYTHING:
        found = judge(manifest, mark, content, state, file)
        if found.code == "ours_intact" and file != "published":
            assert MANIFESTS[manifest].bytes_match
            assert MANIFESTS[manifest].is_ours


def test_nothing_of_ours_is_claimed_for_a_picture_that_does_not_match_unless_its_bytes_prove_it():
    for manifest, mark, content, state, file in EVERYTHING:
        found = judge(manifest, mark, content, state, file)
        proven = file == "published" or manifest in ("ours", "ours_other_output")
        if content != "match" and not proven:
            assert found.code not in ("ours_intact", "ours_changed", "ours_recovered", "ours_withdrawn")


def test_an_answer_that_disagrees_names_no_output():
    assert all(judge(*cell).output is None for cell in EVERYTHING if judge(*cell).code == "disagree")


def test_a_record_without_a_readable_manifest_is_matched_by_none():
    for claim in ("", CLAIM):
        found = verdict(Evidence(credentials=ours(claim_sha256=claim)), Book((replace(OUTPUT, claim_sha256=""),)))
        assert (found.code, found.reason) == ("disagree", "not_our_signature")


def test_the_very_file_we_published_is_recognised_even_after_its_certificate_expired():
    found = judge("ours_expired", "none", "not_compared", "in_force", "published")
    assert (found.code, found.reason) == ("ours_intact", "exact_file")
    assert judge("ours_expired", "same", "match", "withdrawn", "published").code == "ours_withdrawn"


def test_a_comparison_with_another_output_counts_as_none():
    evidence = Evidence(mark=MarkEvidence(MARK), content=ContentEvidence("out_2", True))
    assert verdict(evidence, Book((OUTPUT, OTHER))).reason == "not_compared"


def test_a_file_that_could_not_be_read_says_why_and_what_to_do():
    found = verdict(Evidence(unreadable="It is larger than 1 GB. Upload a smaller one."), Book(()))
    assert (found.code, found.sentence) == ("unreadable", "It is larger than 1 GB. Upload a smaller one.")


def test_the_words_say_when_and_whose_permission():
    assert judge("ours", "same").headline == "Edited with AI here on 3 May 2026. The people shown gave permission."
    withdrawn = judge("ours", "same", state="withdrawn")
    assert withdrawn.headline == "Permission was withdrawn on 1 June 2026. Please do not share."
    recovered = judge("none", "same")
    assert recovered.headline == "Label data was removed, but our hidden mark is present."
    assert "less than once in a thousand million" in recovered.sentence
    assert judge("other_trusted").headline == "Content Credentials issued by Camera Maker."
    assert judge("none").headline == "No marks found. This does not mean it is real."
    assert judge("other_invalid").headline == "Content Credential unavailable or invalid."
    assert "AI was used" in judge("other_unknown").sentence


def test_a_rights_attestation_is_not_called_permission_of_the_person_replaced():
    book = Book((replace(OUTPUT, target_cover="attestation"),))
    found = verdict(Evidence(credentials=ours(), mark=MarkEvidence(MARK)), book)
    assert "The people shown gave permission" not in found.headline
    assert "the account stated that it holds the rights" in found.headline


def test_a_test_output_and_missing_screening_are_said():
    book = Book((replace(OUTPUT, livemode=False, not_screened=("face_forgery", "age")),))
    found = verdict(Evidence(credentials=ours(), mark=MarkEvidence(MARK)), book)
    assert "test output" in found.sentence
    assert "not screened for: forged faces, age." in found.sentence


@pytest.mark.parametrize(
    ("stamp", "said"), [("trusted", False), ("", False), ("missed", True), ("none", True), ("untrusted", True)]
)
def test_a_time_that_nobody_else_vouches_for_is_said_and_reported(stamp, said):
    found = verdict(Evidence(credentials=ours(), mark=MarkEvidence(MARK)), Book((replace(OUTPUT, time_stamp=stamp),)))
    assert ("no trusted time stamp" in found.sentence) == said
    assert found.to_json()["output"]["time_stamp"] == (stamp or None)


def test_the_report_holds_what_a_page_needs_and_no_raw_manifest():
    credentials = ours(
        actions=(Action("c2pa.edited", digital_source_type=AI),),
        ingredients=(Ingredient("target", "image/jpeg", "parentOf", "none"),),
        raw={"manifests": {"secret": 1}},
    )
    report = verdict(
        Evidence(credentials=credentials, mark=MarkEvidence(MARK, "2026", 31.0, -9.0, ((0.0, 2.5),))), Book((OUTPUT,))
    ).to_json()
    assert report["output"]["id"] == "out_1"
    assert report["output"]["published_at"] == "2026-05-03T10:00:00+00:00"
    assert report["mark"]["spans"] == [[0.0, 2.5]]
    assert report["mark"]["id"] == MARK.hex()
    assert report["manifest"]["ingredients"][0]["title"] == "target"
    assert "secret" not in json.dumps(report)
    assert '2026"' not in json.dumps(report["mark"])  # the name of the key stays inside


def test_the_reading_of_a_picture_and_of_a_video_both_become_evidence():
    @dataclass(frozen=True)
    class Read:
        mark_id: bytes = MARK
        key: str = "2026"
        score: float = 12.5
        false_alarm_log10: float = -20.0

    @dataclass(frozen=True)
    class ReadVideo(Read):
        spans: tuple[tuple[float, float], ...] = ((0.0, 1.0),)

    assert MarkEvidence.of(None) is None
    assert MarkEvidence.of(Read()) == MarkEvidence(MARK, "2026", 12.5, -20.0)
    assert MarkEvidence.of(ReadVideo()).spans == ((0.0, 1.0),)


def test_which_output_to_compare_with_is_told_by_the_mark_before_the_manifest():
    book = Book((OUTPUT, OTHER))
    assert record_to_compare(Evidence(credentials=ours(), mark=MarkEvidence(OTHER_MARK)), book) == OTHER
    assert record_to_compare(Evidence(credentials=ours()), book) == OUTPUT
    assert record_to_compare(Evidence(), book) is None
