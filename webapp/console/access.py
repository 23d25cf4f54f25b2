"""Who may open the console."""

from __future__ import annotations

from typing import cast

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from webapp.accounts.models import User


def moderator(request: HttpRequest) -> User:
    """The moderator who is logged in. Raises PermissionDenied for everybody else."""
    user = cast(User, request.user)
    if not user.is_staff:
        raise PermissionDenied
    return user
