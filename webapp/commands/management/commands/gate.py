"""`manage.py gate`: lists of pictures and faces, the review queue, detector packs, their evaluation and drift."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from webapp.commands import gate_evaluation, gate_faces, gate_lists, gate_packs, gate_reviews
from worker.gate.packs.calibration import CalibrationError
from worker.gate.packs.standing import PackError
from worker.inference.types import ModelError

# Each has HELP, add_arguments(parser) and run(options), which yields the lines to print.
MODULES = {"lists": gate_lists, "faces": gate_faces, "reviews": gate_reviews}
ACTIONS = ("known", "list", "install", "remove", "accept", "enforce", "relax")


class Command(BaseCommand):
    help = f"{gate_packs.HELP}\n\n{gate_evaluation.HELP}"
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        for name, module in MODULES.items():
            module.add_arguments(
                actions.add_parser(name, help=module.HELP, formatter_class=RawDescriptionHelpFormatter)
            )
        packs = actions.add_parser("packs", help="install, list and decide about detector packs")
        packs.add_argument("what", choices=ACTIONS)
        packs.add_argument("name", nargs="?", default="", help="a pack's id; of `install` also a manifest")
        packs.add_argument("--model", type=Path, metavar="FILE", help="of `install`: the ONNX file")
        packs.add_argument("--sha256", default="", metavar="HASH", help="of `install`: what the file must have")
        packs.add_argument("--pin", action="store_true", help="of `install`: take an unknown SHA-256 on trust")
        packs.add_argument("--reason", default="", help="why you may use it under its licence")
        evaluate = actions.add_parser("evaluate", help="measure packs on files of your own")
        gate_evaluation.options(evaluate)
        evaluate.add_argument("--pack", default="", help="which one (default: all)")
        evaluate.add_argument("--roads", action="store_true", help="also after JPEG, half size, a crop and H.264")
        evaluate.add_argument("--json", action="store_true", help="JSON instead of words")
        evaluate.add_argument("--out", type=Path, metavar="FOLDER", help="draw figures there")
        evaluate.add_argument("--seed", type=int, default=0, help="of the interval (default: %(default)s)")
        calibrate = actions.add_parser("calibrate", help="fit a pack's scores to probabilities on files of your own")
        gate_evaluation.options(calibrate)
        calibrate.add_argument("--pack", required=True)
        calibrate.add_argument("--method", choices=["platt", "isotonic"], default="platt")
        calibrate.add_argument(
            "--bpcer",
            type=float,
            default=0.05,
            metavar="SHARE",
            help="of bona fide files that may go to review, at most 0.05 (the default); less leaves room to the bound",
        )
        actions.add_parser("drift", help="compare this week's scores with those of the calibrations")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            for line in self._lines(action, options):
                self.stdout.write(line)
        except (PackError, ModelError, CalibrationError) as error:
            raise CommandError(f"{error.message} [{error.code}]") from error

    def _lines(self, action: str, options: dict[str, Any]) -> Any:
        if (module := MODULES.get(action)) is not None:
            return module.run(options)
        match action:
            case "packs":
                if not options["name"] and options["what"] not in ("known", "list"):
                    raise CommandError(f"Say which pack to {options['what']}. `gate packs list` shows them.")
                return gate_packs.run(options["what"], options["name"], options)
            case "evaluate":
                return gate_evaluation.evaluate(
                    options["folder"],
                    options["manifest"],
                    options["pack"],
                    roads=options["roads"],
                    as_json=options["json"],
                    figures=options["out"],
                    seed=options["seed"],
                )
            case "calibrate":
                return gate_evaluation.calibrate(
                    options["folder"], options["manifest"], options["pack"], options["method"], options["bpcer"]
                )
        from webapp.commands import gate_drift

        return gate_drift.lines()
