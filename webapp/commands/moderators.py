"""Who of the house acts at the command line."""

from __future__ import annotations

from django.core.management.base import CommandError

from webapp.accounts.models import User


def moderator(email: str) -> User:
    """The moderator with that address, or the only one there is. Raises CommandError."""
    found = User.objects.filter(is_staff=True, is_active=True)
    if email:
        found = found.filter(email=email.lower())
    moderators = list(found[:2])
    if len(moderators) == 1:
        return moderators[0]
    if not moderators:
        raise CommandError("There is no such moderator; nothing was changed. See `accounts list`.")
    raise CommandError("There are several moderators. Say who decides with --moderator; nothing was changed.")
