"""`manage.py review list | release ID --reason … | reject ID --reason …`: the moderator's queue at the command line."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from webapp.accounts.models import User
from webapp.commands.moderators import the_only
from webapp.screening import services
from webapp.screening.models import Review


class Command(BaseCommand):
    help = "List what waits for a person's decision, release it, or reject it."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="open reviews, overdue ones first")
        listing.add_argument("--json", action="store_true", help="one JSON object per line")
        for name in ("release", "reject"):
            action = actions.add_parser(name)
            action.add_argument("review", help="id of the review, rev_…")
            action.add_argument("--reason", required=True, help="why; kept with the decision")
            action.add_argument(
                "--reviewer", default="", help="user name of the moderator (needed if there are several)"
            )

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        if action == "list":
            self._list(as_json=options["json"])
            return
        review = Review.objects.filter(pk=options["review"]).first()
        if review is None:
            raise CommandError(f"There is no review {options['review']}. `review list` shows those that are open.")
        decide = services.release_review if action == "release" else services.reject_review
        try:
            decided = decide(review, self._moderator(options["reviewer"]), options["reason"])
        except services.ScreeningError as error:
            raise CommandError(f"{error.code}: {error.message}") from error
        waits = ", waits for a second reviewer" if decided.waits_for_second else ""
        self.stdout.write(f"{decided.pk} {decided.state}{waits}")

    def _list(self, *, as_json: bool) -> None:
        count = 0
        for review in services.waiting():
            count += 1
            evidence = review.screening
            about = evidence.asset_id or evidence.job_id
            if as_json:
                line = {
                    "id": review.pk,
                    "about": about,
                    "reasons": evidence.reasons,
                    "not_screened": evidence.not_screened,
                    "kind": review.kind,
                    "priority": review.priority,
                    "needs_two": review.needs_two,
                    "waits_for_second": review.waits_for_second,
                    "opened_at": review.opened_at.isoformat(),
                    "due_at": review.due_at.isoformat(),
                }
                self.stdout.write(json.dumps(line))
            else:
                two = "  second reviewer" if review.waits_for_second else "  two reviewers" if review.needs_two else ""
                self.stdout.write(
                    f"{review.pk}  {about}  due {review.due_at:%Y-%m-%d %H:%M}  {', '.join(evidence.reasons)}{two}"
                )
        if not count and not as_json:
            self.stdout.write("Nothing waits for a decision.")

    def _moderator(self, name: str) -> User:
        return the_only(
            {"username": name} if name else {},
            none="There is no such moderator. A moderator is an active account with is_staff.",
            several="There are several moderators. Say who decides with --reviewer NAME.",
        )
