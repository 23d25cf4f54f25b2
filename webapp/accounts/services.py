"""Organisations, accounts and partner keys are made here."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone

from webapp.accounts.models import ApiKey, Organisation, User
from webapp.ids import ALPHABET

KEY_HEAD = "imp_live"
PREFIX_LENGTH = 10
LONGEST_KEY = 120


class AccountsError(Exception):
    """An account or key that cannot be made; `code` is stable."""

    def __init__(self, code: str, message: str, *, status: int = 422) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def create_organisation(name: str) -> Organisation:
    """A new tenant. Raises AccountsError name_required."""
    name = " ".join(name.split())
    if not name:
        raise AccountsError("name_required", "An organisation needs a name; nothing was made. Give it one.")
    return Organisation.objects.create(name=name[:120])


def create_user(
    *, email: str, password: str, organisation: Organisation | None, username: str = "", moderator: bool = False
) -> User:
    """A new account; a moderator (`is_staff`) belongs to no organisation, everybody else to exactly one.

    Raises AccountsError: email_invalid, password_weak, organisation_required, account_exists (409).
    """
    if moderator == (organisation is not None):
        raise AccountsError(
            "organisation_required", "An account belongs to an organisation, a moderator to none; nothing was made."
        )
    email = User.objects.normalize_email(email.strip()).lower()
    user = User(username=username or email, email=email, organisation=organisation, is_staff=moderator)
    try:
        validate_email(email)
    except ValidationError:
        raise AccountsError("email_invalid", "This is not an e-mail address; nothing was made. Correct it.") from None
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise AccountsError("password_weak", f"{' '.join(error.messages)} Nothing was made.") from None
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError:
        raise AccountsError("account_exists", "There is an account of that name already.", status=409) from None
    return user


def issue_api_key(organisation: Organisation, *, name: str, days: int | None = None) -> tuple[ApiKey, str]:
    """A partner key and its text, which is shown this once: only a hash of its 256 random bits is kept."""
    prefix = "".join(secrets.choice(ALPHABET) for _ in range(PREFIX_LENGTH))
    secret = secrets.token_hex(32)
    key = ApiKey.objects.create(
        organisation=organisation,
        name=(" ".join(name.split()) or "key")[:80],
        prefix=prefix,
        secret_sha256=_hash(secret),
        expires_at=timezone.now() + timedelta(days=days) if days is not None else None,
    )
    return key, f"{KEY_HEAD}_{prefix}_{secret}"


def revoke_api_key(key: ApiKey) -> None:
    """From now on the key opens nothing."""
    ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=timezone.now())
    key.refresh_from_db()


def find_api_key(text: str) -> ApiKey | None:
    """The key in force that `text` is, else None; takes the same time whether prefix or secret is wrong."""
    head, _, rest = text.rpartition("_")
    name, _, prefix = head.rpartition("_")
    if len(text) > LONGEST_KEY or name != KEY_HEAD:
        return None
    key = ApiKey.objects.select_related("organisation").filter(prefix=prefix).first()
    matches = secrets.compare_digest(_hash(rest), key.secret_sha256 if key is not None else "0" * 64)
    if key is None or not matches or not _in_force(key, timezone.now()):
        return None
    return key


def note_use(key: ApiKey) -> None:
    """Remember when a key was last used, to the minute: not each request is worth a write."""
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > timedelta(minutes=1):
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)


def _in_force(key: ApiKey, now: datetime) -> bool:
    return (
        key.revoked_at is None
        and (key.expires_at is None or key.expires_at > now)
        and key.organisation.suspended_at is None
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
