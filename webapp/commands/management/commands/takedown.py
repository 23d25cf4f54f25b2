"""`manage.py takedown`: hide a published output, or end a consent, for a reason that is kept."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from consent import services as consents
from consent.models import Consent
from webapp.accounts.models import User
from webapp.jobs import services as jobs
from webapp.jobs.models import Output


class Command(BaseCommand):
    help = (
        "Hide an output (out_…) for good, or revoke a consent (cns_…), which stops its jobs and hides its outputs. "
        "Verification says so at once; the bytes are deleted by the scheduler."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", help="out_… or cns_…")
        parser.add_argument("--reason", required=True, help="why; kept. A short code without names for a consent")
        parser.add_argument("--moderator", required=True, help="e-mail address of the moderator who decides")

    def handle(self, *args: Any, **options: Any) -> None:
        moderator = User.objects.filter(email=options["moderator"].lower(), is_staff=True, is_active=True).first()
        if moderator is None:
            raise CommandError("There is no such moderator; nothing was changed. See `accounts list`.")
        try:
            if options["id"].startswith("cns_"):
                consent = Consent.objects.get(pk=options["id"])
                state = consents.revoke_consent(consent, reason=options["reason"]).state
            else:
                output = Output.objects.get(pk=options["id"])
                state = jobs.take_down_output(output, moderator, options["reason"]).permission
        except (Consent.DoesNotExist, Output.DoesNotExist):
            raise CommandError(f"There is nothing called {options['id']}; nothing was changed.") from None
        except (consents.ConsentError, jobs.JobsError) as error:
            raise CommandError(f"{error.code}: {error.message}") from error
        self.stdout.write(f"{options['id']} {state}")
