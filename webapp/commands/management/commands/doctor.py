"""`manage.py doctor`: what works, what is missing, and how to mend it."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from webapp.commands.checks import CHECKS, Finding


class Command(BaseCommand):
    help = "Look at every part of this installation and say how to mend what is missing. Exit 1 if jobs cannot run."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="findings as JSON, for monitoring")

    def handle(self, *args: Any, **options: Any) -> None:
        findings: list[Finding] = []
        for check in CHECKS:
            try:
                findings.extend(check())
            except Exception as error:  # one broken part must not hide the others
                findings.append(Finding(check.__name__, "missing", f"{type(error).__name__}: {error}"))
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=1))
        else:
            paint = {"ok": self.style.SUCCESS, "note": self.style.WARNING, "missing": self.style.ERROR}
            for finding in findings:
                self.stdout.write(f"{paint[finding.level](f'{finding.level:8}')} {finding.what:12} {finding.words}")
                if finding.mend and finding.level != "ok":
                    self.stdout.write(f"{'':8} {'':12} -> {finding.mend}")
        if any(finding.level == "missing" for finding in findings):
            sys.exit(1)
