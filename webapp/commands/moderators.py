"""Who of the house acts at the command line."""

from __future__ import annotations

from collections.abc import Mapping

from django.core.management.base import CommandError

from webapp.accounts.models import User


def moderator(email: str) -> User:
    """The moderator with that address, or the only one there is. Raises CommandError."""
    return the_only(
        {"email": email.lower()} if email else {},
        none="There is no such moderator; nothing was changed. See `accounts list`.",
        several="There are several moderators. Say who decides with --moderator; nothing was changed.",
    )


def the_only(named: Mapping[str, str], *, none: str, several: str) -> User:
    """The one moderator with these fields. Raises CommandError with one of the messages."""
    moderators = list(User.objects.filter(is_staff=True, is_active=True, **named)[:2])
    if len(moderators) == 1:
        return moderators[0]
    raise CommandError(several if moderators else none)
