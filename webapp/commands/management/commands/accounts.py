"""`manage.py accounts …`: organisations, people, moderators and partner keys, from the command line."""

from __future__ import annotations

import getpass
import secrets
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from webapp.accounts import services
from webapp.accounts.models import ApiKey, Organisation, User


class Command(BaseCommand):
    help = "Make organisations, users, moderators and partner keys, list them, and revoke keys."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="organisations with their users and keys")
        organisation = actions.add_parser("organisation", help="a new tenant")
        organisation.add_argument("name")
        for name, words in (("user", "a person of an organisation"), ("moderator", "decides reviews, for the house")):
            person = actions.add_parser(name, help=f"{words}; asks for a password, or makes one without a terminal")
            person.add_argument("email")
            if name == "user":
                person.add_argument("--organisation", required=True, help="name or id")
        key = actions.add_parser("key", help="a partner key; shown once")
        key.add_argument("organisation", help="name or id")
        key.add_argument("--name", required=True, help="what it is for")
        key.add_argument("--days", type=int, help="days until it expires (default: never)")
        revoke = actions.add_parser("revoke", help="end a partner key at once")
        revoke.add_argument("prefix", help="the key's prefix, as `accounts list` shows it")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            getattr(self, f"_{action}")(**options)
        except services.AccountsError as error:
            raise CommandError(f"{error.code}: {error.message}") from error

    def _list(self, **_: Any) -> None:
        for organisation in Organisation.objects.order_by("created_at"):
            self.stdout.write(f"{organisation.pk}  {organisation.name}")
            for user in organisation.users.order_by("email"):
                self.stdout.write(f"  user  {user.email}")
            for key in organisation.api_keys.order_by("created_at"):
                state = "revoked" if key.revoked_at else "in force"
                self.stdout.write(f"  key   {key.prefix}  {key.name}  ({state})")
        for moderator in User.objects.filter(is_staff=True).order_by("email"):
            self.stdout.write(f"moderator  {moderator.email}")

    def _organisation(self, name: str, **_: Any) -> None:
        self.stdout.write(services.create_organisation(name).pk)

    def _user(self, email: str, organisation: str, **_: Any) -> None:
        self._person(email, self._find(organisation))

    def _moderator(self, email: str, **_: Any) -> None:
        self._person(email, None)

    def _person(self, email: str, organisation: Organisation | None) -> None:
        made = "" if sys.stdin.isatty() else secrets.token_urlsafe(12)
        password = made or getpass.getpass("Password: ")
        services.create_user(email=email, password=password, organisation=organisation, moderator=organisation is None)
        self.stdout.write(f"{email}  password: {made}" if made else email)

    def _key(self, organisation: str, name: str, days: int | None, **_: Any) -> None:
        self.stdout.write(services.issue_api_key(self._find(organisation), name=name, days=days)[1])

    def _revoke(self, prefix: str, **_: Any) -> None:
        key = ApiKey.objects.filter(prefix=prefix).first()
        if key is None:
            raise CommandError(f"There is no key {prefix!r}. Nothing was changed; see `accounts list`.")
        services.revoke_api_key(key)
        self.stdout.write(f"{prefix} revoked")

    def _find(self, name: str) -> Organisation:
        found = list(Organisation.objects.filter(pk=name) or Organisation.objects.filter(name=name))
        if len(found) != 1:
            words = "There is no" if not found else "There are several"
            raise CommandError(f"{words} organisation {name!r}. Nothing was made; see `accounts list` and use the id.")
        return found[0]
