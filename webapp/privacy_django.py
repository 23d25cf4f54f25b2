"""The data categories of the tables that Django brings: permissions, groups, content types, sessions."""

from __future__ import annotations

from webapp.privacy import ACCOUNT, OPERATION, Category, Record

T, ID = Category.TECHNICAL, Category.IDENTIFIER

RECORDS = {
    "auth.Permission": Record(ACCOUNT, "none", {"id": T, "name": T, "content_type": T, "codename": T}),
    "auth.Group": Record(ACCOUNT, "none", {"id": T, "name": T}),
    "auth.Group_permissions": Record(ACCOUNT, "none", {"id": T, "group": T, "permission": T}),
    "contenttypes.ContentType": Record(ACCOUNT, "none", {"id": T, "app_label": T, "model": T}),
    # Signed, not encrypted: it holds the account's number; links to people's pages lie in it sealed (pages.links).
    "sessions.Session": Record(
        OPERATION, "sessions", {"session_key": Category.CREDENTIAL, "session_data": ID, "expire_date": T}
    ),
}
