"""Hiding published outputs: the row says so, and whoever registered learns it in the same transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from webapp.jobs.models import Output

Listener = Callable[[Sequence[Output]], None]

_listeners: list[Listener] = []


def register_hidden(listener: Listener) -> None:
    """`listener(outputs)` is called inside the transaction that hides them; if it raises, they stay as they were."""
    if listener not in _listeners:
        _listeners.append(listener)


def hide(outputs: QuerySet[Output], permission: str) -> int:
    """Hide those of `outputs` whose permission is in force, for the reason `permission` names; how many.

    From the commit on nobody gets their bytes; those of an ended permission are deleted by `upkeep.erase_outputs`.
    """
    with transaction.atomic():
        found = list(outputs.filter(permission=Output.Permission.IN_FORCE).select_related("job__target").order_by("pk"))
        now = timezone.now()
        hidden = []
        for output in found:
            if Output.objects.filter(pk=output.pk, permission=Output.Permission.IN_FORCE).update(
                permission=permission, permission_changed_at=now
            ):
                output.permission, output.permission_changed_at = permission, now
                hidden.append(output)
        if hidden:
            for listener in _listeners:
                listener(hidden)
        return len(hidden)
