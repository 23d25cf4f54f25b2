"""`manage.py mark embed IN OUT` and `manage.py mark read FILE`: the invisible mark by hand, for a look or a test."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
from django.core.management.base import BaseCommand, CommandError
from numpy.typing import NDArray
from PIL import Image

from watermark import image
from watermark.mark_errors import MarkError
from watermark.payload import new_mark_id
from webapp.keys_of_house import mark_keys
from worker.media import client
from worker.media.errors import ChildError, MediaError


class Command(BaseCommand):
    help = "Write an invisible mark into a picture, or read one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        embed = actions.add_parser("embed", help="write a marked copy (PNG keeps it best)")
        embed.add_argument("file", type=Path)
        embed.add_argument("output", type=Path)
        embed.add_argument("--id", help="16 hexadecimal digits; a fresh id if left out")
        embed.add_argument("--mode", choices=["default", "durable"], default="default")
        read = actions.add_parser("read", help="look for a mark of this deployment")
        read.add_argument("file", type=Path)
        read.add_argument("--effort", choices=["fast", "full", "deep"], default="deep", help="(default: deep)")

    def handle(self, *args: Any, **options: Any) -> None:
        rgb = _open(options["file"])
        try:
            if options["action"] == "embed":
                self._embed(rgb, options)
            else:
                self._read(rgb, options)
        except MarkError as error:
            raise CommandError(f"{error.message} [{error.code}]") from error

    def _embed(self, rgb: NDArray[np.uint8], options: dict[str, Any]) -> None:
        try:
            mark_id = bytes.fromhex(options["id"]) if options["id"] else new_mark_id()
        except ValueError as error:
            raise CommandError("The id is not hexadecimal. Nothing was written. Give 16 hexadecimal digits.") from error
        output: Path = options["output"]
        if output.exists():
            raise CommandError(f"{output} exists already. Nothing was written. Choose another name.")
        marked = image.embed(rgb, mark_id, mark_keys()[0], options["mode"])
        try:
            Image.fromarray(marked).save(output, quality=95)
        except (ValueError, OSError) as error:
            output.unlink(missing_ok=True)
            raise CommandError(
                f"{output} could not be written ({error}). Nothing was kept. Try a .png name."
            ) from error
        self.stdout.write(mark_id.hex())

    def _read(self, rgb: NDArray[np.uint8], options: dict[str, Any]) -> None:
        reading = image.read(rgb, mark_keys(), options["effort"])
        if reading is None:
            raise CommandError("No mark of this deployment was found.", returncode=3)
        where = reading.geometry
        self.stdout.write(f"id           {reading.mark_id.hex()}")
        self.stdout.write(f"key          {reading.key}")
        self.stdout.write(f"lock         {reading.score:.1f} deviations, found by {reading.effort}")
        self.stdout.write(f"false alarm  1e{reading.false_alarm_log10:.1f}")
        state = "whole picture" if where.whole else f"part or edit, turned by {where.rotation:.1f} degrees"
        self.stdout.write(f"geometry     {state}{', mirrored' if where.mirrored else ''}")
        self.stdout.write(f"seconds      {reading.seconds:.2f}")


def _open(path: Path) -> NDArray[np.uint8]:
    """Decoded in a media child: this process holds the keys."""
    try:
        return client.decode_image(path)
    except (OSError, MediaError, ChildError) as error:
        raise CommandError(f"{path} could not be opened as a picture ({error}). Nothing was changed.") from error
