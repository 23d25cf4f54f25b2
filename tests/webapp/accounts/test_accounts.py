"""Organisations, accounts and partner keys."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.test import APIRequestFactory

from webapp.accounts import services
from webapp.accounts.auth import ApiKeyAuthentication
from webapp.accounts.models import ApiKey, Organisation, User

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"


@pytest.fixture
def studio() -> Organisation:
    return services.create_organisation("  Cleo's   studio ")


def authenticate(header: str | None) -> object:
    request = APIRequestFactory().get("/v1/jobs", **({"HTTP_AUTHORIZATION": header} if header is not None else {}))
    return ApiKeyAuthentication().authenticate(request)


def test_a_key_opens_the_api_for_its_organisation_and_is_not_stored(studio: Organisation) -> None:
    key, text = services.issue_api_key(studio, name="server")
    assert text.startswith("imp_live_")
    assert studio.name == "Cleo's studio"
    secret = text.rpartition("_")[2]
    assert secret not in str(ApiKey.objects.filter(pk=key.pk).values())
    partner, found = authenticate(f"Bearer {text}")
    assert (partner.organisation, found) == (studio, key)
    assert partner.is_authenticated
    assert not partner.is_staff


def test_requests_without_a_key_are_nobody_and_those_with_a_wrong_one_are_refused(studio: Organisation) -> None:
    _, text = services.issue_api_key(studio, name="server")
    assert authenticate(None) is None
    assert authenticate("Basic abc") is None
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    others = ("imp_live__", "x", "é", "a b", "", "imp_live_" + "a" * 500)
    for header in (wrong, text + "0", text.replace("live", "test"), *others):
        with pytest.raises(AuthenticationFailed):
            authenticate(f"Bearer {header}")


def test_a_revoked_or_expired_key_and_one_of_a_suspended_organisation_open_nothing(studio: Organisation) -> None:
    revoked, first = services.issue_api_key(studio, name="a")
    expired, second = services.issue_api_key(studio, name="b", days=1)
    _, third = services.issue_api_key(studio, name="c")
    services.revoke_api_key(revoked)
    assert services.find_api_key(second) == expired
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert services.find_api_key(first) is None
    assert services.find_api_key(second) is None
    assert services.find_api_key(third) is not None
    Organisation.objects.update(suspended_at=timezone.now())
    assert services.find_api_key(third) is None


def test_the_last_use_is_noted_to_the_minute(studio: Organisation) -> None:
    key, text = services.issue_api_key(studio, name="server")
    authenticate(f"Bearer {text}")
    key.refresh_from_db()
    first = key.last_used_at
    assert first is not None
    authenticate(f"Bearer {text}")
    key.refresh_from_db()
    assert key.last_used_at == first


def test_an_account_belongs_to_an_organisation_and_a_moderator_to_none(studio: Organisation) -> None:
    cleo = services.create_user(email="Cleo@Example.org", password=PASSWORD, organisation=studio)
    assert (cleo.email, cleo.username, cleo.is_staff) == ("cleo@example.org", "cleo@example.org", False)
    assert cleo.check_password(PASSWORD)
    assert services.create_user(email="mod@example.org", password=PASSWORD, organisation=None, moderator=True).is_staff
    for organisation, moderator in ((studio, True), (None, False)):
        with pytest.raises(services.AccountsError) as error:
            services.create_user(
                email="x@example.org", password=PASSWORD, organisation=organisation, moderator=moderator
            )
        assert error.value.code == "organisation_required"


@pytest.mark.parametrize(
    ("email", "password", "code"),
    [
        ("nobody", PASSWORD, "email_invalid"),
        ("a@example.org", "short", "password_weak"),
        ("CLEO@example.org", PASSWORD, "account_exists"),
    ],
)
def test_a_bad_account_is_refused_by_name(studio: Organisation, email: str, password: str, code: str) -> None:
    services.create_user(email="cleo@example.org", password=PASSWORD, organisation=studio)
    with pytest.raises(services.AccountsError) as error:
        services.create_user(email=email, password=password, organisation=studio)
    assert error.value.code == code
    assert User.objects.count() == 1
