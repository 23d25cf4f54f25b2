"""Who may see the account's pages, and the one place that finds a tenant's rows for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import cast

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache

from webapp.accounts.models import Organisation, User
from webapp.jobs.models import Asset, Job

View = Callable[..., HttpResponseBase]


def for_account(view: View) -> View:
    """Only for somebody logged in who acts for an organisation; moderators without one go to their console."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        user = account(request)
        if user.organisation is None:
            if user.is_staff:
                return redirect("console:reviews")
            raise PermissionDenied
        if user.organisation.suspended_at is not None:
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return cast(View, never_cache(login_required(guarded)))


def account(request: HttpRequest) -> User:
    """The person who is logged in."""
    return cast(User, request.user)


def organisation(request: HttpRequest) -> Organisation:
    """The organisation this request acts for (`for_account` made sure that there is one)."""
    found = account(request).organisation
    assert found is not None
    return found


def own_job(request: HttpRequest, job_id: str) -> Job:
    """A job of this organisation, or 404 as if there were none."""
    job = Job.objects.of(organisation(request)).whole().filter(pk=clean_id(job_id)).first()
    if job is None:
        raise Http404
    return job


def own_asset(request: HttpRequest, asset_id: str) -> Asset:
    """An uploaded file of this organisation, or 404 as if there were none."""
    asset = Asset.objects.of(organisation(request)).filter(pk=clean_id(asset_id), erased_at__isnull=True).first()
    if asset is None:
        raise Http404
    return asset


def clean_id(value: str) -> str:
    """An id fit for a query: a NUL byte, which PostgreSQL will not take in a text, finds nothing."""
    if "\x00" in value or len(value) > 64:
        raise Http404
    return value
