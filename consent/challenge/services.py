"""The live selfie: three random movements, one clip, one check, one decision. Every function is one transaction.

The order is the protection. The movements are drawn before the camera opens, for one use within five minutes; a clip
that was prepared cannot know them. The same clip sent twice is one clip, so a lost answer costs nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, BinaryIO

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from consent import mail
from consent.answers import OPEN, UNDER_WAY, challenge_pending, check_open
from consent.challenge import clips
from consent.errors import ConsentError
from consent.levels import least
from consent.limits import CLIP_BYTES
from consent.models import Challenge, Consent
from consent.transitions import lock_for_change, record
from consent.yes import Yes, complete
from webapp.outbox.services import enqueue

# As the person sees themselves: left is their own left. The check knows the same six (a test compares the two).
ACTIONS = ("turn_left", "turn_right", "look_up", "open_mouth", "blink", "smile")
ACTIONS_ASKED = 3
SHOW_DEPTH = frozenset({"turn_left", "turn_right", "look_up"})
"""Each list holds one of these: what the others ask for, a flat picture that is animated could do too."""
LIFETIME = timedelta(minutes=5)
CLIPS_PER_DAY = 5  # of one request: guessing is not to be tried for long
ISSUED_PER_DAY = 20  # nobody waits for three easy movements either
CLIP_KINDS = ("video/webm", "video/mp4", "video/quicktime", "video/x-matroska")
LONGEST_PAUSE = 30.0  # seconds between two starts of a check
TASK = "worker.check_challenge"
QUEUE = "cpu.media"
LEVEL = "L2"
OURS = ("worker_crash", "check_failed")  # endings that are our fault do not count as a try
REASON_LENGTH = (3, 500)

CHECK_STATES = ("waiting", "checking", "review", "passed")

CS = Challenge.State
_random = secrets.SystemRandom()


def latest(consent: Consent) -> Challenge | None:
    """The newest challenge of a request."""
    return consent.challenges.order_by("-issued_at", "-pk").first()


def passed(consent: Consent) -> Challenge | None:
    """The challenge that completed the person's yes; None where there was none."""
    return consent.challenges.filter(state=CS.PASSED).order_by("-decided_at", "-pk").first()


def check_state(consent: Consent) -> str | None:
    """Where the person's selfie stands, for the account that asked: one word of CHECK_STATES, no details."""
    if not consent.draft_sealed and consent.given_at is None:
        return None
    found = latest(consent)
    if found is None:
        return "waiting" if consent.draft_sealed else None
    if found.state in (CS.SUBMITTED, CS.CHECKING):
        return "checking"
    if found.state in (CS.REVIEW, CS.PASSED):
        return str(found.state)
    return "waiting"  # for the person to try (again); how often they failed is theirs


def issue_challenge(consent: Consent) -> Challenge:
    """Draw three movements; while an issued one can still be used, it is that one again.

    Raises ConsentError: `answer_first` without a kept answer, `consent_not_open`, `link_expired`, `challenge_pending`,
    `challenge_attempts` (429).
    """
    with transaction.atomic():
        now = timezone.now()
        locked = lock_for_change(consent.pk)
        _check_waits(locked, now)
        found = latest(locked)
        if found is not None and found.state == CS.ISSUED:
            if found.expires_at > now:
                return found
            _end(found, CS.EXPIRED, ["challenge_expired"], now)
        if found is not None and found.state in UNDER_WAY:
            raise challenge_pending()
        _check_attempts(locked, now)
        issued = Challenge.objects.create(
            consent=locked,
            key_id=locked.key_id,
            actions=_drawn(),
            issued_at=now,
            expires_at=now + LIFETIME,
        )
        record(locked, "challenge_issued", data={"challenge": issued.pk})
        return issued


def _drawn() -> list[str]:
    """Different movements in random order, at least one of which shows that the head is solid: one of 114 lists."""
    while True:
        actions = _random.sample(ACTIONS, ACTIONS_ASKED)
        if SHOW_DEPTH & set(actions):
            return actions


def submit_clip(consent: Consent, challenge_id: str, clip: BinaryIO, *, mime: str, size: int) -> Challenge:
    """Take the clip of a challenge and have it checked. The same clip again answers as the first time.

    Raises ConsentError: `challenge_unknown`, `challenge_used` for another clip, `challenge_expired`, `clip_too_large`,
    `clip_invalid`, `answer_first`, `consent_not_open`, `link_expired`; and what the storage raises.
    """
    if size > CLIP_BYTES:
        raise ConsentError(
            "clip_too_large",
            f"The video is larger than {CLIP_BYTES >> 20} MiB. Nothing was kept; try again.",
            status=413,
        )
    kind = mime.split(";", maxsplit=1)[0].strip().lower()
    if not size or kind not in CLIP_KINDS:
        raise ConsentError("clip_invalid", "This is not a video from the camera. Nothing was kept; try again.")
    sha256 = hashlib.file_digest(clip, "sha256").hexdigest()  # type: ignore[arg-type]
    clip.seek(0)
    known = _known(consent, challenge_id)
    if known.state != CS.ISSUED:
        return _again(known, sha256)
    if known.expires_at <= timezone.now():
        raise _expired()  # before anything is written
    name = clips.store(clip, known.key_id)
    taken = False
    try:
        with transaction.atomic():
            now = timezone.now()
            locked = lock_for_change(consent.pk)
            _check_waits(locked, now)
            # A moment's lateness between here and the look above is the person's; one decides: the row.
            taken = bool(
                Challenge.objects.filter(pk=known.pk, state=CS.ISSUED, expires_at__gt=now).update(
                    state=CS.SUBMITTED,
                    submitted_at=now,
                    queued_at=now,
                    clip_name=name,
                    clip_sha256=sha256,
                    clip_mime=kind,
                    clip_size=size,
                )
            )
            if taken:
                # Who was in time does not lapse while the house is checking.
                _keep_open(locked, now + timedelta(days=1))
                record(locked, "challenge_sent", data={"challenge": known.pk})
                send(known.pk)
    finally:
        if not taken:
            clips.delete(name)
    known.refresh_from_db()
    if taken:
        return known
    if known.state in (CS.ISSUED, CS.EXPIRED):
        raise _expired()
    return _again(known, sha256)  # another request with it was faster


def send(challenge_id: str, *, delay: float = 0) -> None:
    """Ask a worker, in the caller's transaction; `delay` in seconds."""
    enqueue("task", {"name": TASK, "args": [challenge_id], "queue": QUEUE}, delay=delay)


def wanted_faces(challenge: Challenge) -> list[tuple[str, int]]:
    """(asset, face) of the pictures that the clip must match: the photos the person confirmed, or every target."""
    consent = challenge.consent
    if consent.role == Consent.Role.TARGET_PERSON:
        return [(str(target["asset_id"]), int(target["face"])) for target in consent.targets]
    yes = Yes.kept(consent)
    return [(photo["asset_id"], int(photo["face"])) for photo in (yes.photos if yes else consent.photos)]


def settle_check(
    challenge_id: str,
    owner: str,
    *,
    verdict: str,
    codes: Sequence[str],
    report: Mapping[str, Any],
    match: Mapping[str, Any],
    stills: Sequence[str] = (),
) -> bool:
    """What the check found: the yes is completed, waits for a person, or the person may try again.

    `verdict` is "pass", "review" or "fail"; anything else fails. Public and commercial use (consent.levels) goes to a
    person even when all is well. False if the challenge is no longer `owner`'s.
    """
    with transaction.atomic():
        now = timezone.now()
        locked, challenge = _held(challenge_id, owner)
        if challenge is None:
            return False
        challenge.report, challenge.match, challenge.stills = dict(report), dict(match), list(stills)
        yes = Yes.kept(locked)
        if locked.state not in OPEN or yes is None:
            _end(challenge, CS.EXPIRED, ["consent_closed"], now, keep=False)
        elif verdict == "pass" and not least(yes.purposes, settings.PROFILE).review:
            _pass(locked, challenge, yes, list(codes), by="policy")
        elif verdict in ("pass", "review"):
            found = list(codes) if verdict == "review" else [*codes, "public_use"]
            _update(challenge, CS.REVIEW, codes=found, lease_owner="", lease_expires_at=None)
            _keep_open(locked, now + timedelta(days=settings.CONSENT_LINK_DAYS))
            record(locked, "challenge_review", data={"challenge": challenge.pk, "codes": found})
        else:
            _fail(locked, challenge, list(codes) or ["check_failed"], "policy", now)
        return True


def return_check(challenge_id: str, owner: str, *, passing: bool = False) -> bool:
    """The worker could not check just now: another start, or an end after too many. False if it is not `owner`'s.

    `passing`: what kept it from it needs a moment to pass.
    """
    with transaction.atomic():
        now = timezone.now()
        locked, challenge = _held(challenge_id, owner)
        if challenge is None:
            return False
        if challenge.starts_without_progress >= settings.MAX_STARTS_WITHOUT_PROGRESS:
            _fail(locked, challenge, ["worker_crash"], "policy", now)
        else:
            _update(challenge, CS.SUBMITTED, lease_owner="", lease_expires_at=None, queued_at=now)
            send(challenge.pk, delay=min(2.0**challenge.starts, LONGEST_PAUSE) if passing else 0)
        return True


def reviews() -> QuerySet[Challenge]:
    """The checks that wait for a person of the house, oldest first."""
    return Challenge.objects.filter(state=CS.REVIEW).select_related("consent").order_by("submitted_at", "pk")


def release_challenge(challenge: Challenge, *, by: str, reason: str) -> Challenge:
    """A moderator lets a doubtful clip pass. Raises ConsentError: `reason_invalid`, `review_closed`."""
    return _judge(challenge, by, reason, release=True)


def reject_challenge(challenge: Challenge, *, by: str, reason: str) -> Challenge:
    """A moderator does not let it pass; the person may try again. Raises as `release_challenge`."""
    return _judge(challenge, by, reason, release=False)


def _judge(challenge: Challenge, by: str, reason: str, *, release: bool) -> Challenge:
    reason = " ".join(reason.split())
    if not REASON_LENGTH[0] <= len(reason) <= REASON_LENGTH[1]:
        raise ConsentError("reason_invalid", "Write why, in 3 to 500 characters. Nothing was changed.")
    with transaction.atomic():
        now = timezone.now()
        locked = lock_for_change(challenge.consent_id)
        found = Challenge.objects.select_for_update().get(pk=challenge.pk)
        yes = Yes.kept(locked) if locked.state in OPEN else None
        if found.state != CS.REVIEW or yes is None:
            raise ConsentError(
                "review_closed", "This check was decided or closed meanwhile. Nothing was changed.", status=409
            )
        found.reason_sealed = found.seal("reason", reason)
        if release:
            _pass(locked, found, yes, found.codes, by=by)
        else:
            _fail(locked, found, ["review_rejected"], by, now)
        mail.send_decision(locked, agreed=release)
    return found


def _pass(locked: Consent, challenge: Challenge, yes: Yes, codes: list[str], *, by: str) -> None:
    _end(challenge, CS.PASSED, codes, timezone.now(), by=by)
    record(locked, "challenge_passed", data={"challenge": challenge.pk, "by": by})
    evidence = {
        "challenge_id": challenge.pk,
        "selfie_match": {**challenge.match, "clip_sha256": challenge.clip_sha256, "decided_by": by},
    }
    complete(locked, yes, level=LEVEL, evidence=evidence)


def _fail(locked: Consent, challenge: Challenge, codes: list[str], by: str, now: datetime) -> None:
    _end(challenge, CS.FAILED, codes, now, by=by)
    record(locked, "challenge_failed", code=codes[0][:60], data={"challenge": challenge.pk, "codes": codes, "by": by})


def _end(challenge: Challenge, state: str, codes: list[str], now: datetime, *, by: str = "", keep: bool = True) -> None:
    """The last state of a challenge. A copy for disputes stays for the time the retention allows."""
    kept_for = timedelta(days=settings.CHALLENGE_RETENTION_DAYS if keep else 0)
    _update(
        challenge,
        state,
        codes=codes,
        decided_at=now,
        decided_by=by,
        clip_until=now + kept_for,
        lease_owner="",
        lease_expires_at=None,
    )


def _update(challenge: Challenge, state: str, **values: Any) -> None:
    challenge.state = state
    for column, value in values.items():
        setattr(challenge, column, value)
    challenge.save()


def _held(challenge_id: str, owner: str) -> tuple[Consent, Challenge | None]:
    """The locked consent, and the challenge if it is still this owner's to decide. The consent is locked first."""
    found = Challenge.objects.filter(pk=challenge_id).first()
    if found is None:
        raise ConsentError("challenge_unknown", "There is no such check. Nothing was changed.", status=404)
    locked = lock_for_change(found.consent_id)
    held = Challenge.objects.select_for_update().filter(pk=challenge_id, lease_owner=owner, state=CS.CHECKING).first()
    return locked, held


def _known(consent: Consent, challenge_id: str) -> Challenge:
    found = consent.challenges.filter(pk=challenge_id).first() if "\x00" not in challenge_id else None
    if found is None:
        raise ConsentError(
            "challenge_unknown", "These movements were not asked for here. Nothing was kept; start again.", status=404
        )
    return found


def _again(challenge: Challenge, sha256: str) -> Challenge:
    """An answer for a challenge that was used: the same clip is the same answer."""
    if challenge.clip_sha256 and hmac.compare_digest(challenge.clip_sha256, sha256):
        return challenge
    if challenge.state == CS.EXPIRED:
        raise _expired()
    raise ConsentError(
        "challenge_used", "A video was already sent for these movements. It counts; this one does not.", status=409
    )


def _check_waits(locked: Consent, now: datetime) -> None:
    """Raise unless the request is open and the form was answered."""
    check_open(locked, now)
    if not locked.draft_sealed:
        raise ConsentError("answer_first", "Answer the question first; the camera comes after it.", status=409)


def _check_attempts(locked: Consent, now: datetime) -> None:
    recent = [
        (each.submitted_at is not None, each.codes)
        for each in locked.challenges.filter(issued_at__gt=now - timedelta(days=1)).only("submitted_at", "codes")
    ]
    sent = sum(1 for submitted, codes in recent if submitted and not set(codes) & set(OURS))
    if sent >= CLIPS_PER_DAY or len(recent) >= ISSUED_PER_DAY:
        raise ConsentError(
            "challenge_attempts", "Too many tries today. Your answers are kept; try again tomorrow.", status=429
        )


def _keep_open(locked: Consent, until: datetime) -> None:
    if locked.link_expires_at < until:
        locked.link_expires_at = until
        locked.save(update_fields=["link_expires_at", "changed_at"])


def _expired() -> ConsentError:
    return ConsentError(
        "challenge_expired",
        "The five minutes are over. Nothing was kept; start again, your answers are still there.",
        status=410,
    )
