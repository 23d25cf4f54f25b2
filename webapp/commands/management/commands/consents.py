"""`manage.py consents`: see a permission, and end it as the operator (court, fraud, the wrong person)."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from consent import services
from consent.models import Consent
from webapp.jobs.models import Job, Output

REASONS = ("wrong_person", "fraud", "court", "authority", "other")


class Command(BaseCommand):
    """Names and contacts are not printed: the console shows them, and notes who looked."""

    help = "Show a consent, or revoke it for the operator."

    def add_arguments(self, parser: CommandParser) -> None:
        """`show ID` and `revoke ID --reason CODE`."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("show", help="state, scope and what happened").add_argument("consent_id")
        revoke = verbs.add_parser("revoke", help="end it for good: jobs stop, results are hidden and deleted")
        revoke.add_argument("consent_id")
        revoke.add_argument("--reason", required=True, choices=REASONS)

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError for what cannot be done."""
        consent = Consent.objects.filter(pk=options["consent_id"]).first()
        if consent is None:
            raise CommandError("There is no such consent. Nothing was changed; check the id.")
        if options["verb"] == "revoke":
            try:
                services.revoke_consent(consent, reason=options["reason"])
            except services.ConsentError as error:
                raise CommandError(f"{error.message} ({error.code})") from error
            consent.refresh_from_db()
        self._show(consent)

    def _show(self, consent: Consent) -> None:
        self.stdout.write(f"{consent.pk}: {consent.state}, {consent.role}, {', '.join(consent.purposes)}")
        outputs, seconds = services.left_of(consent)
        self.stdout.write(f"left: {outputs} results" + ("" if seconds is None else f", {seconds:g} seconds"))
        for event in consent.events.all():
            self.stdout.write(f"{event.at:%Y-%m-%d %H:%M:%S} {event.type} {event.code}".rstrip())
        made = Output.objects.filter(job__in=Job.objects.on_consents([consent]))
        for output in made.order_by("pk"):
            said = ", copies deleted by the account" if output.copies_deleted_at else ""
            self.stdout.write(f"{output.pk}: {output.permission}{', deleted here' if output.erased_at else ''}{said}")
