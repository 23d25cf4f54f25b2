"""The door of the portal: ask for a link, open it once, go out again."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from consent import services
from consent.errors import ConsentError
from consent.portal import access as portal_access
from consent.portal.texts import portal_words
from consent.texts import fill
from webapp.pages import portal_guard as guard
from webapp.pages import portal_home


@require_safe
@guard.private
def front(request: HttpRequest) -> HttpResponseBase:
    """The person's page with a session, else the question for their address."""
    if guard.session_of(request) is not None:
        return portal_home.home(request)
    return guard.page(request, "ask")


@require_POST
@guard.private
def ask(request: HttpRequest) -> HttpResponseBase:
    """Send a link, or not: the answer is the same, in words and in time, whether the address is known or not."""
    locale = guard.locale_of(request, None)
    text = portal_words(locale)
    email = request.POST.get("email", "").replace("\x00", "")
    try:
        portal_access.ask_for_link(email, ip=request.META.get("REMOTE_ADDR", ""), locale=locale)
    except ConsentError as error:
        sentence = text["error"].get(error.code, text["error"]["other"])
        return guard.page(request, "ask", None, {"problem": sentence, "email": email}, status=error.status)
    sent = fill(text["ask"]["sent"], minutes=str(portal_access.LINK_MINUTES))
    return guard.page(request, "ask", None, {"sent": sent})


@require_http_methods(["GET", "HEAD", "POST"])
@guard.private
def enter(request: HttpRequest, token: str) -> HttpResponseBase:
    """GET asks to open it, because mail scanners fetch links; POST uses the link up and opens a session."""
    locale = guard.locale_of(request, None)
    if request.method != "POST":
        is_open = portal_access.is_open(token)
        return guard.page(request, "enter", None, {"token": token, "is_open": is_open}, status=200 if is_open else 410)
    try:
        secret = portal_access.enter(token, locale=locale)
    except ConsentError as error:
        return guard.page(request, "enter", None, {"token": token, "is_open": False}, status=error.status)
    return guard.let_in(guard.see_other(guard.PATH), secret)


@csrf_exempt  # as the person's own pages: the address is the secret, and they send no referrer or origin
@require_POST
@guard.private
def enter_by_request(request: HttpRequest, token: str) -> HttpResponseBase:
    """From the page of one request: a session about that request, and more only if its person has no address here."""
    consent = services.find_by_token(token)
    if guard.foreign(request):
        text = portal_words(guard.locale_of(request, None))["enter"]
        return guard.page(request, "problem", None, {"sentence": text["foreign"], "code": "foreign"}, status=403)
    secret = portal_access.enter_by_request(consent, locale=request.POST.get("lang") or consent.locale)
    return guard.let_in(guard.see_other(guard.PATH), secret)


@require_POST
@guard.private
def leave(request: HttpRequest) -> HttpResponseBase:
    """End the session; the way back is a new link."""
    session = guard.session_of(request)
    locale = guard.locale_of(request, session)
    if session is not None:
        portal_access.leave(session)
    return guard.let_out(guard.see_other(guard.PATH, locale=locale))
