"""The data categories of accounts, organisations and partner keys (see `webapp.privacy`)."""

from __future__ import annotations

from webapp.privacy import ACCOUNT, Category, Record

ID, T, ORG, DID = Category.IDENTIFIER, Category.TECHNICAL, Category.ORGANISATION, Category.BEHAVIOUR
CREDENTIAL = Category.CREDENTIAL

RECORDS = {
    "accounts.Organisation": Record(ACCOUNT, "accounts", {"id": ORG, "name": ORG, "created_at": T, "suspended_at": T}),
    "accounts.User": Record(
        ACCOUNT,
        "accounts",
        {
            "id": ID,
            "password": CREDENTIAL,
            "last_login": DID,
            "is_superuser": T,
            "username": Category.CONTACT,  # the e-mail address unless somebody chose another
            "first_name": Category.NAME,
            "last_name": Category.NAME,
            "is_staff": T,
            "is_active": T,
            "date_joined": DID,
            "email": Category.CONTACT,
            "organisation": ORG,
        },
    ),
    "accounts.User_groups": Record(ACCOUNT, "accounts", {"id": T, "user": ID, "group": T}),
    "accounts.User_user_permissions": Record(ACCOUNT, "accounts", {"id": T, "user": ID, "permission": T}),
    "accounts.ApiKey": Record(
        ACCOUNT,
        "accounts",
        {
            "id": T,
            "organisation": ORG,
            "name": ORG,
            "prefix": CREDENTIAL,
            "secret_sha256": CREDENTIAL,
            "created_at": T,
            "expires_at": T,
            "revoked_at": T,
            "last_used_at": DID,
        },
    ),
}
