"""Log in and out."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth import authenticate
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.core.cache import cache
from django.core.exceptions import ValidationError

from webapp.accounts.models import User

TRIES = 10
PAUSE_SECONDS = 15 * 60


class LoginForm(AuthenticationForm):
    """E-mail address and password. After ten wrong answers for one address there is a pause."""

    username = forms.CharField(
        label="E-mail address",
        max_length=254,
        widget=forms.EmailInput(attrs={"autofocus": True, "autocomplete": "username", "id": "id_username"}),
    )

    def clean(self) -> dict[str, Any]:
        """Find the account by its e-mail address; the answer does not tell whether there is one."""
        email = str(self.cleaned_data.get("username") or "").strip().lower()
        password = self.cleaned_data.get("password")
        if not email or not password:
            return self.cleaned_data
        counter = f"login:{email}"
        if int(cache.get(counter, 0)) >= TRIES:
            raise ValidationError("Too many wrong answers. Wait 15 minutes, then try again.", code="paused")
        known = User.objects.filter(email=email).first()
        # An unknown address goes through the same hashing, so that time does not tell either.
        self.user_cache = authenticate(
            self.request, username=known.get_username() if known else f"{email} ", password=password
        )
        if self.user_cache is None:
            cache.add(counter, 0, PAUSE_SECONDS)
            cache.incr(counter)
            raise ValidationError("The address or the password is not right. Check both and try again.", code="wrong")
        cache.delete(counter)
        self.confirm_login_allowed(self.user_cache)
        return self.cleaned_data


class Login(LoginView):
    """The login page."""

    template_name = "pages/login.html"
    authentication_form = LoginForm
    redirect_authenticated_user = True
    extra_context = {"section": "login"}


class Logout(LogoutView):
    """The end of a session (POST only)."""
