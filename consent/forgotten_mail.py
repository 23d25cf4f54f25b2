"""Letters to a person: those that wait in the outbox, and those that lie as files under MAIL_DIR."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from webapp.outbox.models import OutboxMessage

if TYPE_CHECKING:
    from consent.erasure import Line

logger = logging.getLogger(__name__)

# Django's file back-end ends each message of a file so.
SEPARATOR = b"-" * 79


def forget(contact: str, consent_ids: Sequence[str], *, look_only: bool = False) -> Iterator[Line]:
    """Delete letters to `contact`, and messages about these consents that were not sent yet."""
    from consent.erasure import Line

    yield Line("letters that waited to be sent", _outbox(contact, consent_ids, look_only=look_only))
    yield Line("letters in files", _files(contact, look_only=look_only) if contact else 0)


def _outbox(contact: str, consent_ids: Sequence[str], *, look_only: bool) -> int:
    count = 0
    for message in OutboxMessage.objects.filter(sent_at__isnull=True).exclude(topic="task").iterator():
        text = str(message.payload)
        if any(each in text for each in consent_ids) or (contact and contact.lower() in text.lower()):
            count += 1
            if not look_only:
                message.delete()
    return count


def _files(contact: str, *, look_only: bool) -> int:
    """Files of Django's file back-end: a message to or about the contact goes, another one in the same file stays."""
    folder = Path(settings.MAIL_DIR)
    count = 0
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            content = path.read_bytes()
        except OSError as error:
            logger.warning("A letter could not be read (%s).", type(error).__name__)
            raise
        parts = content.split(SEPARATOR + b"\n")
        left = [part for part in parts if not _concerns(part, contact)]
        found = len(parts) - len(left)
        if not found:
            continue
        count += found
        if not look_only:
            _replace(path, (SEPARATOR + b"\n").join(left), size=len(content))
    return count


def _concerns(raw: bytes, contact: str) -> bool:
    if not raw.strip():
        return False
    message = message_from_bytes(raw.lstrip(b"\n"), policy=policy.default)
    named = [str(value) for header in ("To", "Cc", "Bcc", "Reply-To") for value in message.get_all(header, [])]
    if any(address.lower() == contact.lower() for _, address in getaddresses(named)):
        return True
    return contact.lower() in _text(message).lower() or contact.lower().encode() in raw.lower()


def _text(message: EmailMessage) -> str:
    """The decoded words of a letter: a body may be base64, in which no address can be seen."""
    body = [str(message.get("Subject", ""))]
    for part in message.walk():
        if part.get_content_maintype() == "text":
            try:
                body.append(str(part.get_content()))
            except (LookupError, ValueError):
                continue
    return "\n".join(body)


def _replace(path: Path, rest: bytes, *, size: int) -> None:
    """Overwrite, then leave what is left, or nothing."""
    with path.open("r+b") as file:
        file.write(secrets.token_bytes(min(size, 1 << 20)).ljust(size, b"\0"))
        file.flush()
        os.fsync(file.fileno())
    if not rest.strip():
        path.unlink(missing_ok=True)
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    temporary.write_bytes(rest)
    temporary.replace(path)
