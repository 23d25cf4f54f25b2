"""`manage.py demo`: the main job end to end on sample media (or one's own), without a person and without a server."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from consent.errors import ConsentError
from watermark.verdict import Verdict
from webapp.commands.damage import flip_byte
from webapp.commands.evaluation import ready_account
from webapp.commands.mainjob import DemoError, MainJob, Person, Result
from webapp.commands.progress import ProgressBar
from webapp.commands.supervise import PartEndedError, running, worker_part
from webapp.jobs.errors import JobsError
from webapp.storage import StorageError
from webapp.verify.services import verify_file
from worker.model_choice import ENHANCERS, MESH, SWAPPERS, UPSCALERS
from worker.spec import MOST_BOOST

ADA = Person("Ada Stand-in", "ada@example.org")
BEN = Person("Ben Stand-in", "ben@example.org")
VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".m4v"}
SAMPLES = settings.BASE_DIR / "tests" / "samples"
MAX_DISTANCE = 0.60  # the descriptor's own limit for "the same person" (reference: dlib)


class Command(BaseCommand):
    help = (
        "Run the main job: account, upload, consent of both people through their own pages, swap in a real worker, "
        "mark, manifest, publish, verify; then damage the outputs and verify again. Without options it uses two "
        "public-domain portraits and a clip made from one of them."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--source", type=Path, help="photo of the face to put in (needs --target)")
        parser.add_argument("--target", type=Path, help="photo or video in which a face is replaced (needs --source)")
        parser.add_argument("--source-face", type=int, metavar="NUMBER", help="which face, if the photo shows several")
        parser.add_argument("--target-face", type=int, metavar="NUMBER", help="which face, if the target shows several")
        parser.add_argument(
            "--swapper", choices=SWAPPERS, default=MESH, help="what replaces the face (default: %(default)s, built in)"
        )
        parser.add_argument("--enhancer", choices=ENHANCERS, default="", help="what sharpens it, with a model only")
        parser.add_argument(
            "--pixel-boost",
            type=int,
            choices=range(1, MOST_BOOST + 1),
            default=1,
            help="times the model's own pixels a side, with a model only (default: %(default)s)",
        )
        parser.add_argument("--upscaler", choices=UPSCALERS, default="", help="what makes the result larger")
        parser.add_argument("--out", type=Path, help="where the output goes (default: demo-output/)")

    def handle(self, *args: Any, source: Path | None, target: Path | None, out: Path | None, **options: Any) -> None:
        if settings.PROFILE != "evaluation":
            raise CommandError(
                "The demo's people are stand-ins, so it runs only under the profile `evaluation` "
                f"(IMPRIMATUR_PROFILE is {settings.PROFILE or 'not set'}). Nothing was done; use `make demo`."
            )
        if (source is None) != (target is None):
            raise CommandError("Give both --source and --target, or neither.")
        for path in (source, target):
            if path and not path.is_file():
                raise CommandError(f"There is no file {path}. Nothing was done.")
        if out and out.is_dir():
            raise CommandError(f"--out {out} is a folder. Nothing was done; name a file.")
        started = time.monotonic()
        folder = settings.BASE_DIR / "demo-output"
        if source and target:
            kind = "video" if target.suffix.lower() in VIDEO_SUFFIXES else "photo"
            work = [(kind, source, target, out or folder / f"mine{target.suffix.lower()}")]
        else:
            work = [
                ("photo", SAMPLES / "astronaut.jpg", SAMPLES / "grace_hopper.jpg", folder / "photo.jpg"),
                ("video", SAMPLES / "grace_hopper.jpg", self._clip(), folder / "video.mp4"),
            ]
        self.stdout.write(
            "Imprimatur demo: profile evaluation. The people are stand-ins, livemode is false, outputs are labelled."
        )
        self.stdout.flush()
        organisation, user, _ = ready_account()
        log = settings.HOME / "logs" / "demo-worker.log"
        try:
            with ProgressBar("demo") as bar, running([worker_part(log=log)]) as house:
                runner = MainJob(organisation, user, house, bar.show)
                results = [
                    (
                        kind,
                        one,
                        two,
                        runner.run(
                            source=one,
                            target=two,
                            donor=ADA,
                            replaced=BEN,
                            out=where,
                            source_face=options["source_face"],
                            target_face=options["target_face"],
                            options={
                                name: options[name] for name in ("swapper", "enhancer", "pixel_boost", "upscaler")
                            },
                        ),
                    )
                    for kind, one, two, where in work
                ]
        except (DemoError, PartEndedError) as error:
            raise CommandError(f"{error}\nThe worker's log is {log}.") from None
        except (JobsError, ConsentError, StorageError) as error:
            raise CommandError(f"{error} ({error.code})\nThe worker's log is {log}.") from None
        except OSError as error:
            raise CommandError(f"{error.strerror}: {error.filename}. Nothing was written there.") from None
        good = True
        for kind, one, two, result in results:
            good &= self._account(kind, one, two, result)
        self.stdout.write(f"\nDone in {time.monotonic() - started:.1f} s.")
        if not good:
            raise CommandError("At least one line above is not as it must be.")

    def _clip(self) -> Path:
        """A 5-second 720p clip with sound, made once by camera motion over the astronaut's portrait."""
        from worker.media.sample_clip import make_clip

        clip = Path(settings.HOME / "samples" / "clip.mp4")
        if not clip.exists():
            clip.parent.mkdir(parents=True, exist_ok=True)
            make_clip(SAMPLES / "astronaut.jpg", clip, seconds=5.0)
        return clip

    def _account(self, kind: str, source: Path, target: Path, result: Result) -> bool:
        """Print what was done and what the verifier says of it; True when every line is as it must be."""
        job = result.job
        self.stdout.write(f"\n{kind}: {source.name} into {target.name} -> {result.path}")
        laps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result.seconds.items())
        self.stdout.write(f"  time       {laps}")
        stages = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in job.timings.items())
        self.stdout.write(f"  stages     {stages}")
        same = True
        for quality in job.quality.values():
            after, before = quality["distance_to_source"], quality["target_source_before"]
            built_in = quality["swapper"] == MESH  # the limit is that of the built-in descriptor
            near = after < before and (after <= MAX_DISTANCE or not built_in)
            same &= near
            self.stdout.write(
                f"  identity   {after:.2f} from the source person (untouched target: {before:.2f}; "
                f"{f'at most {MAX_DISTANCE:.2f} and ' if built_in else ''}nearer)  {self._mark(near)}"
            )
            named = " ".join(filter(None, (quality["converter"], quality["swapper"], quality["enhancer"])))
            self.stdout.write(f"  made with  {named} ({quality['model_set']})")
        for warning in job.warnings:
            self.stdout.write(f"  note       {warning}")
        checks = [("the output", result.path, "ours_intact")]
        damaged = result.path.parent / "damaged"
        damaged.mkdir(exist_ok=True)
        stripped = damaged / f"{result.path.stem}-reencoded{'.jpg' if kind == 'photo' else '.mp4'}"
        self._reencode(result.path, stripped, kind)
        words = "JPEG quality 75" if kind == "photo" else "H.264 CRF 23"
        checks.append((f"re-encoded, {words}", stripped, "ours_recovered"))
        flipped = damaged / f"{result.path.stem}-flipped{result.path.suffix}"
        flip_byte(result.path, flipped, kind=kind)
        checks.append(("one byte flipped", flipped, "ours_changed"))
        checks.append(("the untouched target", target, "nothing_found"))
        for name, path, expected in checks:
            verdict: Verdict = verify_file(path)
            right = verdict.code == expected
            same &= right
            self.stdout.write(f"  verify     {name}: {verdict.headline}  {self._mark(right)}")
        return same

    def _reencode(self, path: Path, out: Path, kind: str) -> None:
        from worker.media.sandbox import call

        out.unlink(missing_ok=True)
        payload = {"path": str(path.resolve()), "out": str(out.resolve()), "kind": kind}
        call(
            "worker.media.reencode:reencode",
            payload,
            timeout=120.0,
            reads=[path.resolve()],
            writes=[out.resolve().parent],
        )

    def _mark(self, good: bool) -> str:
        return self.style.SUCCESS("ok") if good else self.style.ERROR("NOT AS IT MUST BE")
