"""Who is let into the portal: a cookie of its own, apart from the accounts' sessions; and how its pages are made."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.utils.cache import patch_cache_control

from consent.errors import ConsentError
from consent.keys import KeyDestroyedError
from consent.portal import access as portal_access
from consent.portal import services as portal
from consent.portal.models import PortalSession
from consent.portal.texts import portal_words
from consent.texts import known_locale

COOKIE = "imprimatur_person"
PATH = "/me"

View = Callable[..., HttpResponseBase]


def private(view: View) -> View:
    """Answer typed errors with a page, and keep every answer out of caches, indexes and other sites' referrers."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **rest: Any) -> HttpResponseBase:
        try:
            response = view(request, *args, **rest)
        except KeyDestroyedError:
            response = problem(request, "erased", 410)
        except ConsentError as error:
            response = problem(request, error.code, error.status)
        patch_cache_control(response, no_store=True, private=True)
        response.headers["X-Robots-Tag"] = "noindex, nofollow, noarchive"
        response._has_been_logged = True  # type: ignore[attr-defined] # Django logs the path of a 4xx: it may be a link
        return response

    return wrapped


def for_person(view: View) -> View:
    """Only with a session of the portal, which is handed on as the second argument; else back to the door."""

    @private
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **rest: Any) -> HttpResponseBase:
        session = session_of(request)
        if session is None:
            return see_other(PATH, locale=request.GET.get("lang", ""))
        if chosen := request.GET.get("lang"):
            portal.choose_language(session, chosen)
        return view(request, session, *args, **rest)

    return guarded


def session_of(request: HttpRequest) -> PortalSession | None:
    """The session of this browser, if there is one."""
    return portal_access.session_of(request.COOKIES.get(COOKIE, ""))


def let_in(response: HttpResponseBase, secret: str) -> HttpResponseBase:
    """Hand the secret of a session to the browser; it ends with the browser, or with the session."""
    response.set_cookie(
        COOKIE, secret, path=PATH, secure=settings.SECURE_COOKIES, httponly=True, samesite="Lax"
    )  # Lax, not Strict: a link in a mail leads to the page, and changes are POSTs with a token
    return response


def let_out(response: HttpResponseBase) -> HttpResponseBase:
    """Take it back."""
    response.delete_cookie(COOKIE, path=PATH, samesite="Lax")
    return response


def foreign(request: HttpRequest) -> bool:
    """Was this form sent from another site? Browsers say so themselves; for pages whose address is the secret."""
    return request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}


def see_other(address: str, *, locale: str = "") -> HttpResponseRedirect:
    """303, so that reloading sends no form again."""
    response = HttpResponseRedirect(address + (f"?lang={known_locale(locale)}" if locale else ""))
    response.status_code = 303
    return response


def locale_of(request: HttpRequest, session: PortalSession | None) -> str:
    """The language chosen, else that of the session, else the browser's."""
    if chosen := request.POST.get("lang") or request.GET.get("lang"):
        return known_locale(chosen)
    if session is not None:
        return session.locale
    return known_locale(request.headers.get("Accept-Language", "").split(",")[0])


def page(
    request: HttpRequest,
    name: str,
    session: PortalSession | None = None,
    context: dict[str, Any] | None = None,
    *,
    status: int = 200,
    locale: str = "",
) -> HttpResponse:
    """A page of the portal in the person's language."""
    locale = locale or locale_of(request, session)
    text = portal_words(locale)
    shown = {
        "words": text,
        "locale": locale,
        "lang": "zh-Hans" if locale == "zh-hans" else "en",
        "other_lang": "zh-Hans" if text["other_locale"] == "zh-hans" else "en",
        "session": session,
        **(context or {}),
    }
    return render(request, f"portal/{name}.html", shown, status=status)


def problem(request: HttpRequest, code: str, status: int) -> HttpResponse:
    """A page that says in a sentence what did not work."""
    session = session_of(request)
    text = portal_words(locale_of(request, session))["error"]
    return page(request, "problem", session, {"sentence": text.get(code, text["other"]), "code": code}, status=status)
