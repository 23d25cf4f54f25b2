"""The answer of a verification: `verdict(evidence, records) -> Verdict`, pure and total.

DESIGN.md section 5 is the table. Three rules stand behind every cell:

* A manifest of ours whose hash over the bytes holds (or a file whose SHA-256 is that of a published output) proves by
  itself which output this is. It is ours when its claim and its signer are those in the record it names: a chain to our
  anchor is not enough, strangers may have one from the same authority. Nothing else proves it: a mark or a damaged
  manifest can be carried over to another picture, so they count only together with a content match against the record
  of that output.
* Once the output is known, permission that is not in force comes before everything else.
* What is unknown is said to be unknown. A mark that our key made but our records do not hold (another life of the
  deployment's database, a leaked key) is `disagree` with reason `no_record`: nobody can say that permission holds. No
  answer ever says that a picture is real.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from watermark.credentials import EXPIRED, MARK_ALGORITHM, Credentials
from watermark.verdict_words import SEVERITY, Words, words

Code = Literal[
    "ours_intact",
    "ours_withdrawn",
    "ours_changed",
    "ours_recovered",
    "disagree",
    "other_trusted",
    "other_unknown",
    "other_invalid",
    "nothing_found",
    "unreadable",
]
Reason = Literal[
    "",
    "exact_file",  # the SHA-256 of the published output
    "mark_not_read",  # intact all the same: the manifest's hash holds
    "certificate_expired",  # the manifest can no longer be checked, the mark and the content can
    "withdrawn",
    "revoked",  # ended by the operator, not by the person
    "taken_down",
    "other_id",  # mark and manifest name different outputs
    "content_mismatch",  # a mark of ours on a picture that we did not publish
    "not_our_signature",  # a manifest that names an output of ours, but is not the one in its record
    "mark_missing",  # a manifest of ours on other bytes, without our mark
    "not_compared",  # no fingerprint to compare with
    "too_plain",  # nothing in the picture to compare
    "no_record",
    "remote_only",
    "broken",
]
IN_FORCE = "in_force"


class MarkReading(Protocol):
    """What the watermark readers return, as far as a verdict needs it."""

    @property
    def mark_id(self) -> bytes: ...
    @property
    def key(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def false_alarm_log10(self) -> float: ...


@dataclass(frozen=True)
class MarkEvidence:
    """A mark that was read. `false_alarm_log10` -9 means one false alarm in 10^9; `spans` are (start, end) seconds."""

    mark_id: bytes
    key: str = ""
    score: float = 0.0
    false_alarm_log10: float = 0.0
    spans: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, reading: MarkReading | None) -> MarkEvidence | None:
        """From watermark.image.Reading or watermark.video.VideoReading; None stays None."""
        if reading is None:
            return None
        spans = tuple((float(start), float(end)) for start, end in getattr(reading, "spans", ()))
        return cls(reading.mark_id, reading.key, float(reading.score), float(reading.false_alarm_log10), spans)


@dataclass(frozen=True)
class ContentEvidence:
    """The fingerprint of the file compared with that of the output `output_id`, in the frame the mark was read in.

    `matches` is None where the picture is too plain to tell. `share`: of the places with something to see, those that
    agree; `regions`: rows over the published picture, "=" agrees, "x" differs, "." plain, space not in the file.
    """

    output_id: str
    matches: bool | None
    pdq_distance: int | None = None
    grid_correlation: float | None = None
    share: float | None = None
    regions: tuple[str, ...] = ()


@dataclass(frozen=True)
class PossibleMatch:
    """An output of ours that looks alike. It is shown, and decides nothing: pictures of one scene look alike too.

    `pdq_distance`: bits of 256 that differ; `seconds`: where in our video; `state` as in `OutputRecord`.
    """

    manifest_label: str
    state: str
    pdq_distance: int
    seconds: float = 0.0


@dataclass(frozen=True)
class OutputRecord:
    """What our records say about one published output. `state`: in_force, withdrawn, revoked, taken_down; any other
    word counts as not in force. `claim_sha256` is that of the manifest we signed (see `Credentials`); "" matches none.
    `target_cover` says what stands for the person whose face was replaced: consent or attestation. `time_stamp` says
    who vouches for the time of the signature: trusted (a service we know), untrusted, none, missed; "": not known."""

    output_id: str
    mark_id: bytes
    manifest_label: str
    state: str
    published_at: datetime | None = None
    livemode: bool = False
    permission_changed_at: datetime | None = None
    sha256: str = ""
    claim_sha256: str = ""
    fingerprint: Mapping[str, Any] | None = None
    target_cover: Literal["consent", "attestation"] = "consent"
    not_screened: tuple[str, ...] = ()
    time_stamp: str = ""


class Records(Protocol):
    """The look-up the caller passes in."""

    def by_mark(self, mark_id: bytes) -> OutputRecord | None:
        """The output that carries this mark."""

    def by_manifest(self, label: str) -> OutputRecord | None:
        """The output with this manifest label."""


@dataclass(frozen=True)
class Evidence:
    """All that was found in one file. `unreadable` says why nothing could be looked at; `file_sha256` is hex."""

    credentials: Credentials | None = None
    mark: MarkEvidence | None = None
    content: ContentEvidence | None = None
    file_sha256: str = ""
    unreadable: str = ""
    possible: tuple[PossibleMatch, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The answer. `headline` and `sentence` are plain English; `reason` tells apart what shares a code; `severity` is
    neutral, warning or error, never the only sign. Texts may hold a foreign issuer's name: escape them where shown."""

    code: Code
    reason: Reason
    headline: str
    sentence: str
    severity: str
    output: OutputRecord | None = None
    evidence: Evidence = field(default_factory=Evidence)

    def to_json(self) -> dict[str, Any]:
        """JSON-able report for the page and the API; no raw manifest, no fingerprint."""
        return {
            "code": self.code,
            "reason": self.reason,
            "severity": self.severity,
            "headline": self.headline,
            "sentence": self.sentence,
            "output": _output_json(self.output),
            "manifest": _manifest_json(self.evidence.credentials),
            "mark": _mark_json(self.evidence.mark),
            "content": _content_json(self.evidence.content),
            "possible_matches": [
                {
                    "manifest": each.manifest_label,
                    "permission": each.state,
                    "pdq_distance": each.pdq_distance,
                    "seconds": each.seconds,
                }
                for each in self.evidence.possible
            ],
        }


def record_to_compare(evidence: Evidence, records: Records) -> OutputRecord | None:
    """The output whose fingerprint the caller should compare before it asks for a verdict; None when there is none."""
    if evidence.mark is not None:
        return records.by_mark(evidence.mark.mark_id)
    label = evidence.credentials.label if evidence.credentials else ""
    return records.by_manifest(label) if label else None


def verdict(evidence: Evidence, records: Records) -> Verdict:
    """Judge one file. Total: every combination of evidence and records has an answer."""
    code, reason, record = _decide(evidence, records)
    said = words(
        Words(
            code=code,
            reason=reason,
            credentials=evidence.credentials,
            false_alarm_log10=evidence.mark.false_alarm_log10 if evidence.mark else 0.0,
            published_at=record.published_at if record else None,
            permission_changed_at=record.permission_changed_at if record else None,
            test=record is not None and not record.livemode,
            attested=record is not None and record.target_cover == "attestation",
            not_screened=record.not_screened if record else (),
            stamped=record is None or record.time_stamp in ("trusted", ""),
            unreadable=evidence.unreadable,
            possible=bool(evidence.possible),
        )
    )
    return Verdict(code, reason, said.headline, said.sentence, SEVERITY[code], record, evidence)


def _decide(evidence: Evidence, records: Records) -> tuple[Code, Reason, OutputRecord | None]:
    if evidence.unreadable:
        return "unreadable", "", None
    mark = evidence.mark
    credentials = evidence.credentials or Credentials("none")
    if credentials.recovered:  # read from our own records, so it says nothing about what the file carries
        credentials = Credentials("none")
    by_mark = records.by_mark(mark.mark_id) if mark else None
    by_label = records.by_manifest(credentials.label) if credentials.label else None

    for record in (by_label, by_mark):
        if record and evidence.file_sha256 and evidence.file_sha256 == record.sha256:
            return _as_published(record, "exact_file")
    if credentials.is_ours and by_label and not _same_manifest(credentials, by_label):
        return "disagree", "not_our_signature", None
    if credentials.is_ours and credentials.bytes_match and credentials.state in ("valid", "trusted"):
        return _intact(credentials, mark, by_label)
    if mark:
        return _marked(evidence, credentials, by_mark, by_label)
    if credentials.is_ours:
        return "disagree", "mark_missing", None
    return _foreign(credentials)


def _same_manifest(credentials: Credentials, record: OutputRecord) -> bool:
    return bool(record.claim_sha256) and credentials.claim_sha256 == record.claim_sha256


def _as_published(record: OutputRecord, reason: Reason) -> tuple[Code, Reason, OutputRecord]:
    if record.state == IN_FORCE:
        return "ours_intact", reason, record
    return "ours_withdrawn", _why_not_in_force(record), record


def _intact(
    credentials: Credentials, mark: MarkEvidence | None, record: OutputRecord | None
) -> tuple[Code, Reason, OutputRecord | None]:
    """The bytes are the ones we signed: the manifest alone says which output this is."""
    if record is None:
        return "disagree", "no_record", None
    if record.state != IN_FORCE:
        return "ours_withdrawn", _why_not_in_force(record), record
    if mark and (mark.mark_id not in credentials.mark_ids or mark.mark_id != record.mark_id):
        return "disagree", "other_id", None
    return _as_published(record, "" if mark else "mark_not_read")


def _marked(
    evidence: Evidence, credentials: Credentials, by_mark: OutputRecord | None, by_label: OutputRecord | None
) -> tuple[Code, Reason, OutputRecord | None]:
    """Our mark, but no manifest that holds for these bytes."""
    mark, content = evidence.mark, evidence.content
    if mark is None or by_mark is None:
        return "disagree", "no_record", None
    if credentials.is_ours and mark.mark_id not in credentials.mark_ids:
        return "disagree", "other_id", None
    if by_label is not None and by_label.output_id != by_mark.output_id:
        return "disagree", "other_id", None
    if content is None or content.output_id != by_mark.output_id:
        return "disagree", "not_compared", None
    if content.matches is None:
        return "disagree", "too_plain", None
    if not content.matches:
        return "disagree", "content_mismatch", None
    if by_mark.state != IN_FORCE:
        return "ours_withdrawn", _why_not_in_force(by_mark), by_mark
    if credentials.bytes_match and EXPIRED in credentials.failures and by_label is not None:
        return "ours_recovered", "certificate_expired", by_mark
    if credentials.is_ours or by_label is not None:
        return "ours_changed", "", by_mark
    return "ours_recovered", "", by_mark


def _foreign(credentials: Credentials) -> tuple[Code, Reason, None]:
    match credentials.state:
        case "trusted":
            return "other_trusted", "", None
        case "valid":
            return "other_unknown", "", None
        case "remote_only":
            return "other_unknown", "remote_only", None
        case "invalid":
            return "other_invalid", "", None
        case "broken":
            return "other_invalid", "broken", None
        case _:
            return "nothing_found", "", None


def _why_not_in_force(record: OutputRecord) -> Reason:
    match record.state:
        case "taken_down":
            return "taken_down"
        case "revoked":
            return "revoked"
        case _:
            return "withdrawn"


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment else None


def _output_json(record: OutputRecord | None) -> dict[str, Any] | None:
    if record is None:
        return None
    return {
        "id": record.output_id,
        "manifest": record.manifest_label,
        "permission": record.state,
        "permission_changed_at": _iso(record.permission_changed_at),
        "published_at": _iso(record.published_at),
        "livemode": record.livemode,
        "target_cover": record.target_cover,
        "not_screened": list(record.not_screened),
        "time_stamp": record.time_stamp or None,
    }


def _manifest_json(credentials: Credentials | None) -> dict[str, Any]:
    values = (credentials or Credentials("none")).to_dict(raw=False)
    values.pop("raw")
    values["declares_ai"] = credentials.declares_ai if credentials else False
    return values


def _mark_json(mark: MarkEvidence | None) -> dict[str, Any] | None:
    if mark is None:
        return None
    return {
        "id": mark.mark_id.hex(),
        "alg": MARK_ALGORITHM,
        "score": round(mark.score, 4),
        "false_alarm_log10": round(mark.false_alarm_log10, 1),
        "spans": [list(span) for span in mark.spans],
    }


def _content_json(content: ContentEvidence | None) -> dict[str, Any] | None:
    if content is None:
        return None
    correlation = content.grid_correlation
    return {
        "matches": content.matches,
        "pdq_distance": content.pdq_distance,
        "share": content.share,
        "regions": list(content.regions),
        "grid_correlation": None if correlation is None else round(correlation, 4),
    }
