"""How a partner's request is recognised: `Authorization: Bearer imp_live_<prefix>_<secret>` (RFC 6750)."""

from __future__ import annotations

from dataclasses import dataclass

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from webapp.accounts import services
from webapp.accounts.models import ApiKey, Organisation


@dataclass(frozen=True)
class Partner:
    """Whoever holds a key acts for its organisation; it is no person's account (`pk` is None)."""

    organisation: Organisation
    key: ApiKey
    pk: None = None
    id: None = None
    is_authenticated: bool = True
    is_anonymous: bool = False
    is_active: bool = True
    is_staff: bool = False
    is_superuser: bool = False

    @property
    def username(self) -> str:
        return f"key:{self.key.prefix}"

    def __str__(self) -> str:
        return self.username


class ApiKeyAuthentication(BaseAuthentication):
    """The only way into the REST API; browser sessions do not open it, so it needs no CSRF protection."""

    keyword = "Bearer"

    def authenticate(self, request: Request) -> tuple[Partner, ApiKey] | None:
        """The partner and its key; None without an Authorization header. Raises AuthenticationFailed for a bad key."""
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != self.keyword.lower().encode():
            return None
        try:
            text = parts[1].decode("ascii") if len(parts) == 2 else ""
        except UnicodeDecodeError:
            text = ""
        key = services.find_api_key(text)
        if key is None:
            raise AuthenticationFailed("This key is not known, or no longer in force.", code="key_invalid")
        services.note_use(key)
        return Partner(organisation=key.organisation, key=key), key

    def authenticate_header(self, request: Request) -> str:
        """For the 401 answer (RFC 9110, section 11.6.1)."""
        return f'{self.keyword} realm="imprimatur"'
