"""`manage.py bench`: how fast this machine swaps, and how well the invisible mark holds."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from webapp.commands import engine_options, watermark_options


class Command(BaseCommand):
    help = (
        "Measure this machine and this version; compare runs on an idle machine, a shared one is noisy. "
        "`bench pipeline`: a swapped clip on the real engine, media child and codecs. `bench models`, `batch` and "
        "`quality`: models alone and through the engine, how well a device is filled, what a swap does to pictures. "
        "`bench gate`: screening a film and a photo. "
        "`bench watermark`: the invisible mark under attack. "
        "`bench repository`: finding an output by its mark or its fingerprint. `bench verify`: checking a file. "
        "`bench ledger`: entries and proofs of the tamper-evident log. "
        "`bench liveness`: the liveness check on rendered heads and on attacks."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
        engine_options.add_arguments(what)
        watermark_options.add_arguments(
            what.add_parser(
                "watermark",
                help="the invisible mark under some hundred attacks",
                description=watermark_options.DESCRIPTION,
                epilog=watermark_options.EXAMPLES,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )

        repository = what.add_parser(
            "repository", help="look-ups in the manifest repository, on a database that is thrown away afterwards"
        )
        repository.add_argument(
            "--entries", type=int, default=1_000_000, help="synthetic outputs, one fingerprint each (default: 1000000)"
        )
        verify = what.add_parser("verify", help="processor time and memory of checking files, made for the purpose")
        verify.add_argument("--seconds", type=float, default=60.0, help="length of the film (default: %(default)g)")
        verify.add_argument("--rounds", type=int, default=5, help="checks of each file (default: %(default)s)")
        liveness = what.add_parser(
            "liveness", help="how often rendered heads pass the liveness check, and attacks on it"
        )
        liveness.add_argument("--rounds", type=int, default=40, help="genuine clips (default: %(default)s)")
        liveness.add_argument("--attacks", type=int, default=6, help="clips of each attack (default: %(default)s)")
        liveness.add_argument("--seed", type=int, default=0, help="another seed, other clips (default: %(default)s)")

        log = what.add_parser(
            "ledger", help="entries and proofs, on a database and keys that are thrown away afterwards"
        )
        log.add_argument("--leaves", type=int, default=1_000_000, help="entries of the log (default: %(default)s)")
        log.add_argument("--no-verify", action="store_true", help="leave out the verification of the live database")

    def handle(self, *args: Any, what: str, **options: Any) -> None:
        if what in engine_options.BENCHES:
            from webapp.commands import engine_bench

            for words in engine_bench.run(what, options):
                self.stdout.write(words)
            return
        if what == "repository":
            from webapp.commands import repository_bench

            if options["entries"] < 1:
                raise CommandError("At least one entry is needed.")
            for words in repository_bench.run(options["entries"]):
                self.stdout.write(words)
            return
        if what == "ledger":
            from webapp.commands import ledger_bench

            if options["leaves"] < 1:
                raise CommandError("At least one leaf is needed.")
            for words in ledger_bench.run(options["leaves"], verify=not options["no_verify"]):
                self.stdout.write(words)
            return
        if what == "verify":
            from webapp.commands import verify_bench

            for words in verify_bench.run(seconds=options["seconds"], rounds=options["rounds"]):
                self.stdout.write(words)
            return
        if what == "liveness":
            from webapp.commands import liveness_bench

            if options["rounds"] < 1 or options["attacks"] < 1:
                raise CommandError("At least one clip of each is needed.")
            for words in liveness_bench.run(rounds=options["rounds"], attacks=options["attacks"], seed=options["seed"]):
                self.stdout.write(words)
            return
        if what == "watermark":
            from webapp.commands import watermark_bench

            for words in watermark_bench.run(options):
                self.stdout.write(words)
            return
