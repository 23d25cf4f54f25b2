"""`manage.py bench`: how fast this machine swaps, and how well the invisible mark holds."""

from __future__ import annotations

import argparse
import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from webapp.commands import watermark_options
from webapp.commands.progress import ProgressBar

SAMPLES = settings.BASE_DIR / "tests" / "samples"


class Command(BaseCommand):
    help = (
        "Measure this machine and this version. `bench` or `bench swap`: a swapped clip on the real engine, media "
        "child and codecs: frames per second of the whole job, milliseconds of each stage, peak memory. "
        "Compare runs on an idle machine; a shared one is noisy. `bench watermark`: the invisible mark under attack. "
        "`bench repository`: finding an output by its mark or its fingerprint. `bench verify`: checking a file. "
        "`bench ledger`: entries and proofs of the tamper-evident log. "
        "`bench liveness`: the liveness check on rendered heads and on attacks."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        _swap_arguments(parser)
        what = parser.add_subparsers(dest="what", metavar="{swap,watermark,repository,verify,ledger,liveness}")
        _swap_arguments(
            what.add_parser("swap", help="speed and memory of a swapped clip (what runs when none is named)")
        )
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

    def handle(self, *args: Any, what: str | None, **options: Any) -> None:
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
        self._swap(**options)

    def _swap(self, *, seconds: list[float], size: str, clip: Path | None, **options: Any) -> None:
        from worker.inference.client import ensure_engine, stop_engine
        from worker.pipeline.bench import BenchResult, bench_swap

        try:
            width, height = (int(part) for part in size.lower().split("x"))
        except ValueError:
            raise CommandError(f"{size!r} is not a size; write it like 1920x1080.") from None
        results: list[tuple[str, BenchResult]] = []
        try:
            engine = ensure_engine(settings.HOME)
            with ProgressBar("bench") as bar:
                for index, length in enumerate(seconds if clip is None else [0.0]):
                    name = clip.name if clip else f"{length:g} s, {width}x{height}"
                    bar.show(name, index / len(seconds))
                    found = bench_swap(
                        engine,
                        options["source"],
                        clip=clip,
                        target=options["target"],
                        seconds=length,
                        size=(width, height),
                    )
                    results.append((name, found))
        finally:
            stop_engine(settings.HOME)
        if options["json"]:
            self.stdout.write(json.dumps({name: found.to_dict() for name, found in results}, indent=1))
            return
        for name, found in results:
            self.stdout.write(
                f"{name}: {found.frames} frames on {found.cores} cores\n"
                f"  whole job        {found.fps:6.1f} frames/s   ({found.job_seconds:.1f} s)\n"
                f"  slowest stage    {found.steady_fps:6.1f} frames/s\n"
                f"  analysis         {found.analysis_fps:6.1f} frames/s   ({found.analysis_seconds:.1f} s)\n"
                f"  processor time   {found.cpu_ms:6.1f} ms a frame, all threads of the media child\n"
                f"  peak memory      {found.peak_rss / 2**20:6.0f} MiB"
            )
            self.stdout.write(
                "  stage, ms a frame (own thread's processor time): "
                + ", ".join(
                    f"{stage} {busy:.1f} ({found.stage_cpu_ms.get(stage, 0.0):.1f})"
                    for stage, busy in found.stage_ms.items()
                )
            )
        if len(results) > 1:
            first, last = results[0][1], results[-1][1]
            self.stdout.write(f"peak memory, last over first: {last.peak_rss / first.peak_rss:.3f}")


def _swap_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[10.0], help="lengths of the made clip (default: 10)"
    )
    parser.add_argument("--size", default="1920x1080", help="size of the made clip (default: %(default)s)")
    parser.add_argument("--clip", type=Path, help="measure on this clip instead of a made one")
    parser.add_argument("--source", type=Path, default=SAMPLES / "grace_hopper.jpg", help="photo of the donor")
    parser.add_argument("--target", type=Path, default=SAMPLES / "astronaut.jpg", help="portrait to make a clip of")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
