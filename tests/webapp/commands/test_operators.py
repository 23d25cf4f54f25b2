"""Operators set a house up and take things down from the command line."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from webapp.accounts.models import Organisation, User
from webapp.accounts.services import find_api_key

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def test_a_house_is_set_up_by_four_commands() -> None:
    run("accounts", "organisation", "Example Studio")
    said = run("accounts", "user", "Cleo@Example.org", "--organisation", "Example Studio")
    run("accounts", "moderator", "mod@example.org")
    key = run("accounts", "key", "Example Studio", "--name", "partner").strip()
    cleo = User.objects.get(email="cleo@example.org")
    assert cleo.check_password(said.split("password: ")[1].strip())
    assert cleo.organisation == Organisation.objects.get()
    assert User.objects.get(email="mod@example.org").is_staff
    found = find_api_key(key)
    assert found is not None
    run("accounts", "revoke", found.prefix)
    assert find_api_key(key) is None
    assert "revoked" in run("accounts", "list")


@pytest.mark.parametrize(
    "words",
    [
        ("accounts", "organisation", " "),
        ("accounts", "user", "cleo@example.org", "--organisation", "nobody"),
        ("accounts", "moderator", "no address"),
        ("accounts", "revoke", "nothing"),
        ("takedown", "out_x", "--reason", "court", "--moderator", "nobody@example.org"),
    ],
)
def test_what_cannot_be_done_says_so(words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run(*words)


def test_a_take_down_of_something_unknown_changes_nothing() -> None:
    run("accounts", "moderator", "mod@example.org")
    for unknown in ("out_unknown", "cns_unknown"):
        with pytest.raises(CommandError, match="nothing called"):
            run("takedown", unknown, "--reason", "court", "--moderator", "mod@example.org")
