"""`manage.py reap`: one round of upkeep by hand, or a loop of it where no scheduler runs."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import close_old_connections
from django.utils import timezone

from consent import erasure
from consent import services as consent_services
from webapp.jobs import upkeep


class Command(BaseCommand):
    help = "Deliver the outbox, return the rows of dead workers, send lost messages again, sweep leftovers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--every", type=float, default=0, metavar="SECONDS", help="repeat until stopped")
        parser.add_argument("--retention", action="store_true", help="also expire consents and erase what had its time")

    def handle(self, *args: Any, every: float, retention: bool, **options: Any) -> None:
        while True:
            done = asdict(upkeep.tick())
            if retention:
                done["healed_erasures"] = erasure.heal(at_start=True)
                done["expired_consents"] = consent_services.expire_due(timezone.now())
                done["erased"] = upkeep.retention()
            if any(done.values()) or not every:
                self.stdout.write(", ".join(f"{name} {count}" for name, count in done.items()))
            if not every:
                return
            time.sleep(every)
            close_old_connections()
