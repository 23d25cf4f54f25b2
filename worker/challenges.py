"""The task that checks a live selfie: is it alive, did it do what was asked, and is it the face in the pictures?

Descriptors exist in this process's memory only, and only as long as the task runs; what is kept are distances.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from numpy.typing import NDArray

from consent import keys
from consent import services as consents
from consent.challenge import clips
from consent.challenge import services as asking
from consent.levels import reaches
from consent.models import Challenge, Consent
from webapp import keys_of_house, storage
from webapp.jobs import challenges, leases, workfolder
from webapp.jobs.meanwhile import upkeep_meanwhile
from worker.endings import DATABASE_AWAY, PASSING, described, drop_broken_connections
from worker.gate.live import liveness
from worker.gate.live.stills import stills as stills_of
from worker.gate.signals import LiveCheck
from worker.inference.client import ensure_engine
from worker.inference.types import ModelError
from worker.limits import IDENTITY_PASS, IDENTITY_REVIEW
from worker.media.errors import ChildError, MediaError
from worker.pipeline.analysis import Analysis
from worker.pipeline.errors import PipelineError

logger = logging.getLogger(__name__)

EXTENSIONS = {"video/webm": "webm", "video/mp4": "mp4", "video/quicktime": "mov", "video/x-matroska": "mkv"}
MODEL = "face_descriptor"
MOST_STILLS = 5


class SourceMissingError(Exception):
    """The pictures to compare with were erased, or hold no face to compare with."""

    code = "source_missing"


@shared_task(name=asking.TASK)
def check_challenge(challenge_id: str) -> None:
    """Check one clip; the answer completes the person's yes, sends it to a reviewer, or lets them try again."""
    owner = leases.new_owner()
    challenge = challenges.claim(challenge_id, owner)
    if challenge is None:
        return
    lease = leases.Lease(Challenge, challenge_id, owner, [Challenge.State.CHECKING])
    with (
        upkeep_meanwhile(),
        lease,
        workfolder.work_folder(challenge_id) as folder,
        _endings(challenge_id, owner, lease),
    ):
        path, writable = folder / f"clip.{EXTENSIONS.get(challenge.clip_mime, 'webm')}", folder / "out"
        writable.mkdir(mode=0o700)
        storage.materialise(challenge.clip_name, challenge.key_id, path)
        references = _references(challenge, folder)
        report = liveness.examine(
            path,
            actions=challenge.actions,
            references=references,
            every=challenge.consent.role == Consent.Role.TARGET_PERSON,
            engine_socket=ensure_engine(settings.HOME),
            work_dir=writable,
            should_stop=lease.lost,
            mark_keys=keys_of_house.mark_keys(),
            anchors_pem=keys_of_house.anchors_pem(),
        )
        lease.guard()
        with _stored_stills(challenge, path, report) as stills:
            kept = consents.settle_check(
                challenge_id,
                owner,
                verdict=report.verdict,
                codes=list(report.codes),
                report=report.to_dict(),
                match=_match(report),
                stills=stills,
            )
            if not kept:
                raise leases.LeaseLostError(challenge_id)


def _references(challenge: Challenge, folder: Path) -> list[NDArray[np.float64]]:
    """The descriptors of the faces in question, from the analyses made at screening; all of them or an error."""
    found = []
    for number, (asset_id, face) in enumerate(asking.wanted_faces(challenge)):
        asset = challenges.source_of(asset_id, challenge.consent.organisation_id)
        if asset is None:
            raise SourceMissingError
        path = folder / f"analysis-{number}"
        try:
            storage.materialise(asset.analysis_name, asset.key_id, path)
        except keys.KeyDestroyedError as error:
            raise SourceMissingError from error
        track = next((track for track in Analysis.load(path).tracks if track.id == face), None)
        path.unlink()
        if track is None or track.descriptor is None:
            raise SourceMissingError
        found.append(np.asarray(track.descriptor, np.float64))
    if not found:
        raise SourceMissingError
    return found


def live_checks(people: Iterable[Consent]) -> list[LiveCheck]:
    """The live check behind each consent that rests on one (L2 and above), for the evidence of a job."""
    found = []
    for person in people:
        if not reaches(person.assurance, asking.LEVEL):
            continue
        challenge = asking.passed(person)
        if challenge is None:
            found.append(LiveCheck(str(person.pk), passed=False))
            continue
        found.append(
            LiveCheck(
                str(person.pk),
                passed=True,
                actions=tuple(challenge.actions),
                codes=tuple(challenge.codes),
                by="policy" if challenge.decided_by == "policy" else "person",
                version=str(challenge.report.get("policy_version", "")),
            )
        )
    return found


def _match(report: liveness.LivenessReport) -> dict[str, object]:
    """The evidence of product.md 1.3, `selfie_match`: numbers and names, nothing a face could be made from."""
    return {
        "score": report.source_distance,
        "threshold": IDENTITY_PASS,
        "review_to": IDENTITY_REVIEW,
        "model": MODEL,
        "pad": report.verdict,
        "policy_version": report.policy_version,
    }


@contextmanager
def _stored_stills(challenge: Challenge, path: Path, report: liveness.LivenessReport) -> Iterator[list[str]]:
    """Stills for the reviewer, kept only if the block ends well; a clip that failed needs none."""
    names: list[str] = []
    try:
        if report.verdict in ("pass", "review"):
            try:
                pictures = stills_of(path, _moments(report))
            except (MediaError, ChildError) as error:  # the verdict stands without them, and a reviewer sees that
                logger.warning("There are no stills of %s: %s", challenge.pk, error.code)
                pictures = []
            for picture in pictures:
                names.append(clips.store(io.BytesIO(picture), challenge.key_id))
        yield names
    except BaseException:
        for name in names:
            clips.delete(name)
        raise


def _moments(report: liveness.LivenessReport) -> Sequence[float]:
    """Seconds worth seeing: the start, and each movement at its middle."""
    seen = [(action.from_seconds + action.to_seconds) / 2 for action in report.actions]
    return sorted({0.0, *seen})[:MOST_STILLS]


@contextmanager
def _endings(challenge_id: str, owner: str, lease: leases.Lease) -> Iterator[None]:
    """What is wrong with the clip lets the person try again; what is wrong with us is done again or said to be ours."""

    def fail(code: str) -> None:
        consents.settle_check(challenge_id, owner, verdict="fail", codes=[code], report={}, match={})

    try:
        yield
    except leases.LeaseLostError:
        logger.info("Challenge %s was taken from this worker.", challenge_id)
    except SourceMissingError as error:
        fail(error.code)
    except SoftTimeLimitExceeded:
        fail("check_failed")
    except Exception as error:
        if lease.lost():
            return
        code, _ = described(error)
        logger.warning("Challenge %s ended with %s.", challenge_id, code, exc_info=code == "internal_error")
        if code == DATABASE_AWAY:
            drop_broken_connections()
        # A bad clip is a report; an error means that nothing was decided, so the same clip is checked once more.
        if code in PASSING or isinstance(error, MediaError | ChildError | PipelineError | ModelError):
            consents.return_check(challenge_id, owner, passing=True)
        else:
            fail("check_failed")
