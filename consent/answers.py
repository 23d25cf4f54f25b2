"""What the person answers, and what ends an answer. Every function is one transition in one transaction."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NotRequired, TypedDict, Unpack

from django.db import transaction
from django.utils import timezone

from consent import keys, subjects
from consent.deadlocks import survives_deadlocks
from consent.errors import ConsentError
from consent.levels import reaches
from consent.models import Challenge, Consent
from consent.names import is_name
from consent.texts import LOCALES, PURPOSE_BOX, NoticeText, consent_text
from consent.transitions import State, lock_for_change, move, record
from consent.yes import Yes, complete

REQUIRED_TICKS = ("person", "adult", "face_processing", "selfie_match")  # those of them that the text has
UNDER_WAY = (Challenge.State.SUBMITTED, Challenge.State.CHECKING, Challenge.State.REVIEW)
OPEN = (State.REQUESTED, State.VIEWED)
LONGEST_NAME = 120


class Form(TypedDict):
    """What comes back with the form, and from which browser and address."""

    ticks: Mapping[str, bool]
    typed_name: str
    confirmed_photos: Sequence[str]
    notice_sha256: str
    user_agent: NotRequired[str]
    ip: NotRequired[str]
    locale: NotRequired[str]


def view_consent(consent: Consent) -> Consent:
    """The person has the page in front of them and acts on it (never by a GET: mail scanners fetch links)."""
    return _change(consent, _view)


def give_consent(consent: Consent, **form: Unpack[Form]) -> Consent:
    """Record the person's yes, as far as it goes: the purposes ticked and the photos (SHA-256) confirmed.

    Raises ConsentError: `consent_incomplete` with the fields that are missing, `consent_form_invalid` for ticks or
    photos that were not on the page, `notice_changed` if the text is not the one that was hashed, `link_expired`,
    `consent_not_open`, `assurance_required` where the link and ticks alone are not enough.
    """

    def give(locked: Consent) -> None:
        yes = _read_form(locked, form)
        _view(locked)
        complete(locked, yes)

    return _change(consent, give)


def answer_consent(consent: Consent, **form: Unpack[Form]) -> Consent:
    """The person's yes by form: given at once where that is enough, else kept sealed until the check has passed.

    Sending the form again replaces what was kept, until a clip is being checked. Raises as `give_consent`, and
    `challenge_pending` while a check is under way.
    """

    def answer(locked: Consent) -> None:
        yes = _read_form(locked, form)
        _view(locked)
        if reaches(locked.assurance, locked.assurance_asked):
            complete(locked, yes)
            return
        if locked.challenges.filter(state__in=UNDER_WAY).exists():
            raise challenge_pending()
        before = Yes.kept(locked)
        yes.keep(locked)
        if before is None:
            record(locked, "answered", data={"notice_sha256": yes.notice_sha256, "asked": locked.assurance_asked})

    return _change(consent, answer)


def refuse_consent(consent: Consent, *, block: bool = False) -> Consent:
    """Record the person's no: the organisation may not ask again for 90 days, with `block` never."""

    def refuse(locked: Consent) -> None:
        check_open(locked, timezone.now())
        _view(locked)
        move(locked, State.REFUSED, code="asking_blocked" if block else "", draft_sealed=None)
        subjects.block_asking(locked, timezone.now(), for_good=block)

    return _change(consent, refuse)


def withdraw_consent(consent: Consent) -> Consent:
    """The person takes the permission back; final. Withdrawing twice changes nothing the second time."""

    def withdraw(locked: Consent) -> None:
        if locked.state != State.WITHDRAWN:
            move(locked, State.WITHDRAWN)

    return _change(consent, withdraw)


def revoke_consent(consent: Consent, *, reason: str) -> Consent:
    """The operator ends the permission (court, fraud, wrong person); final. `reason` is a short code, no names."""

    def revoke(locked: Consent) -> None:
        move(locked, State.REVOKED, code=reason[:60])

    return _change(consent, revoke)


def expire_due(now: datetime | None = None) -> int:
    """Let requests lapse and permissions expire whose time has come; returns how many. Run at any time, by anybody."""
    now = now or timezone.now()
    due = [*_ids(state__in=OPEN, link_expires_at__lte=now), *_ids(state=State.GIVEN, valid_until__lte=now)]
    done = 0

    def end(consent: Consent) -> None:
        nonlocal done
        lapses = consent.state in OPEN and consent.link_expires_at <= now
        expires = consent.state == State.GIVEN and consent.valid_until <= now
        if lapses or expires:
            move(consent, State.LAPSED if lapses else State.EXPIRED, draft_sealed=None)
            done += 1

    for pk in due:
        _act_on(pk, end)
    keys.forget_peppers(now)
    return done


def _ids(**due: object) -> list[str]:
    return list(Consent.objects.filter(**due).order_by("pk").values_list("pk", flat=True)[:500])


def _change(consent: Consent, act: Callable[[Consent], None]) -> Consent:
    """Run `act` on the locked record and bring the caller's copy up to date, once it is done."""
    _act_on(consent.pk, act)
    consent.refresh_from_db()
    return consent


@survives_deadlocks
def _act_on(consent_id: str, act: Callable[[Consent], None]) -> None:
    with transaction.atomic():
        act(lock_for_change(consent_id))


def _view(locked: Consent) -> None:
    if locked.state == State.REQUESTED:
        move(locked, State.VIEWED, viewed_at=timezone.now())


def challenge_pending() -> ConsentError:
    """The refusal of whatever would change the answer that a check is under way for."""
    return ConsentError(
        "challenge_pending", "Your video is being checked. Nothing changed; wait for the result.", status=409
    )


def check_open(locked: Consent, now: datetime) -> None:
    """Raise ConsentError `consent_not_open` or `link_expired` unless the request may still be answered."""
    if locked.state not in OPEN:
        raise ConsentError(
            "consent_not_open", f"This question was answered or closed ({locked.state}). Nothing changed.", status=409
        )
    if locked.link_expires_at <= now or locked.valid_until <= now:
        raise ConsentError(
            "link_expired", "This question was not answered in time. Nothing was agreed; ask again.", status=410
        )


def _read_form(locked: Consent, form: Form) -> Yes:
    """The form, checked against the record as it is now."""
    now = timezone.now()
    check_open(locked, now)
    notice = _notice_read(locked, form["notice_sha256"], form.get("locale", ""))
    ticks, name = form["ticks"], form["typed_name"]
    purposes, photos = _check_form(locked, notice, ticks, name, form["confirmed_photos"])
    return Yes(
        purposes=purposes,
        photos=photos,
        ticks={box: bool(ticks.get(box)) for box, _ in notice.boxes},
        typed_name=" ".join(name.split()),
        locale=notice.locale,
        notice_id=notice.id,
        notice_version=notice.version,
        notice_sha256=notice.sha256,
        notice_text=notice.text,
        evidence=_evidence(form.get("user_agent", ""), form.get("ip", ""), now),
    )


def _notice_read(locked: Consent, sha256: str, locale: str) -> NoticeText:
    """The text as it stands now, if it is the one whose hash came back with the form."""
    for language in (locale,) if locale else dict.fromkeys((locked.locale, *LOCALES)):
        notice = consent_text(locked, language)
        if hmac.compare_digest(notice.sha256, sha256):
            return notice
    raise ConsentError(
        "notice_changed",
        "The text changed since it was opened. Nothing was agreed; read the new text and answer again.",
        status=409,
    )


def _check_form(
    locked: Consent, notice: NoticeText, ticks: Mapping[str, bool], typed_name: str, confirmed_photos: Sequence[str]
) -> tuple[list[str], list[dict[str, Any]]]:
    """(purposes ticked, photos confirmed), both as the request orders them."""
    if not set(ticks) <= {name for name, _ in notice.boxes} or not set(confirmed_photos) <= set(locked.photo_sha256s):
        raise ConsentError(
            "consent_form_invalid", "The answer names what was not on the page. Nothing was agreed; fill it in again."
        )
    purposes = [purpose for purpose in locked.purposes if ticks.get(PURPOSE_BOX + purpose)]
    photos = [photo for photo in locked.photos if photo["sha256"] in confirmed_photos]
    missing: dict[str, str] = {}
    if locked.photos and not photos:
        missing["photos"] = "photo_required"
    if not purposes:
        missing["purposes"] = "purpose_required"
    shown = {name for name, _ in notice.boxes}
    missing |= {name: "tick_required" for name in REQUIRED_TICKS if name in shown and not ticks.get(name)}
    name = " ".join(typed_name.split())
    if not is_name(name, least=2, longest=LONGEST_NAME):
        missing["typed_name"] = "name_required"
    if missing:
        raise ConsentError(
            "consent_incomplete",
            f"The answer is not complete ({', '.join(missing)}). Nothing was agreed; complete it.",
            fields=missing,
        )
    return purposes, photos


_BROWSERS = (
    ("MicroMessenger/", "WeChat"),
    ("Edg", "Edge"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("SamsungBrowser/", "Samsung"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("Safari/", "Safari"),
)


def _evidence(user_agent: str, ip: str, now: datetime) -> dict[str, str]:
    """Browser family and keyed hashes of browser and network (/24 or /48), under a pepper that lives for a month.

    The raw address is never stored (product requirement 1.3); when the pepper is gone the hashes link to nothing.
    """
    pepper = keys.pepper(now)

    def keyed(text: str) -> str:
        return hmac.new(pepper, text.encode(), hashlib.sha256).hexdigest()

    evidence = {"browser": next((name for sign, name in _BROWSERS if sign in user_agent), "other")}
    if user_agent:
        evidence["browser_hmac"] = keyed(f"browser|{user_agent}")
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return evidence
    network = ipaddress.ip_network(f"{address}/{24 if address.version == 4 else 48}", strict=False)
    evidence["network_hmac"] = keyed(f"network|{network}")
    return evidence
