"""The ready account of a machine that runs under the profile `evaluation`."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction

from webapp.accounts import services as accounts
from webapp.accounts.models import Organisation, User


@dataclass(frozen=True)
class EvaluationAccount:
    """What a person needs to log in, a partner to call the API, and a moderator to review."""

    email: str
    password: str
    moderator: str
    moderator_password: str
    api_key: str


def ready_account() -> tuple[Organisation, User, EvaluationAccount]:
    """The account of `demo` and `serve`, made at the first call and kept in a 0600 file beside the other secrets."""
    path = Path(settings.KEYS_DIR) / "evaluation-account.json"
    if path.exists():
        account = EvaluationAccount(**json.loads(path.read_text(encoding="utf-8")))
        user = User.objects.filter(email=account.email).select_related("organisation").first()
        if user and user.organisation:
            return user.organisation, user, account
    with transaction.atomic():
        User.objects.filter(email__in=["cleo@example.org", "mod@example.org"]).delete()
        organisation = accounts.create_organisation("Evaluation studio")
        password, moderator_password = secrets.token_urlsafe(12), secrets.token_urlsafe(12)
        user = accounts.create_user(
            organisation=organisation, email="cleo@example.org", password=password, username="Cleo"
        )
        accounts.create_user(
            organisation=None, email="mod@example.org", password=moderator_password, username="Mod", moderator=True
        )
        _, api_key = accounts.issue_api_key(organisation, name="evaluation")
        account = EvaluationAccount(user.email, password, "mod@example.org", moderator_password, api_key)
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(account), file)
    temporary.replace(path)
    return organisation, user, account
