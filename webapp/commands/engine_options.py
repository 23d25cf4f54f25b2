"""The options of `manage.py bench models|batch|quality|pipeline|gate`, apart from what they start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.conf import settings

BENCHES = ("models", "batch", "quality", "pipeline", "gate")
SAMPLES = settings.BASE_DIR / "tests" / "samples"
_PRECISIONS = ("fp32", "fp16", "int8")

_PIPELINE = """\
Processor time of a 1080p frame by part of the work, in all processes, in the steady state: a longer clip less a shorter
one. It is held against what is required and against the goal; a number by the clock is only shown, but for the pretend
device, where waiting is what is measured and an idle machine is needed. Codecs and mark are measured alone, with the
job's own readers, writers and settings.

Without --models only the built-in swap is measured. With a folder of ONNX files named as in the registry (detector,
landmarks, embedding, swapper) the neural set runs too: on the real models for what a frame and a photo cost over the
models themselves, and on a pretend device for the host's share.
"""
_GATE = """\
Processor time of screening a film and a photo as uploads are, in all processes: nudity and age (each picture that is
looked at decoded once for both) over the film's length, each look apart, the face analysis apart, the lists and the
rest apart; peak memory of all processes at a tenth of the length and at the full length. Detector packs are left out.
"""
_EXAMPLES = """\
examples:
  manage.py bench pipeline                                       the built-in swap, some minutes
  manage.py bench pipeline --models DIR --json pipeline.json     the neural set too
  manage.py bench pipeline --seconds 10 600                      peak memory of a ten-minute clip against ten seconds
  manage.py bench models --models DIR --only hyperswap_1a_256    one model alone and through the engine
  manage.py bench gate --seconds 600 --entries 1000000           screening ten minutes of film, with a list of hashes
  manage.py bench batch                                          a pretend device with 1 to 32 open runs
  manage.py bench quality --images photos                        what the swap does to your own pictures
"""


def add_arguments(what: Any) -> None:
    """Add the five parsers to the subparsers `what`."""
    models = _parser(what, "models", "each model alone and through the engine: load, latency, items per second, memory")
    models.add_argument("--only", nargs="+", metavar="NAME", default=[], help="these models only")
    models.add_argument("--seconds", type=float, default=1.0, help="of each model and batch size (default: 1)")
    models.add_argument("--largest", type=int, default=16, help="batch size to go up to (default: 16)")
    batch = _parser(what, "batch", "a pretend device with 1 to 32 open runs: items per second, busy share")
    batch.add_argument("--seconds", type=float, default=3.0, help="of each number of open runs (default: 3)")
    quality = _parser(what, "quality", "what a swap does to sample pictures, by precision")
    quality.add_argument("--images", type=Path, metavar="DIR", help="a folder of portraits instead of the samples")
    quality.add_argument(
        "--precision", nargs="+", choices=_PRECISIONS, default=list(_PRECISIONS), help="(default: all three)"
    )
    pipeline = _parser(what, "pipeline", "a swapped clip: where the processor time of a frame goes", _PIPELINE)
    pipeline.add_argument(
        "--clip",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="films instead of made ones; with one alone its start counts",
    )
    pipeline.add_argument(
        "--seconds", type=float, nargs="+", default=[4.0, 12.0], help="lengths of the made clips (default: 4 12)"
    )
    pipeline.add_argument("--size", default="1920x1080", help="size of the made clips (default: %(default)s)")
    pipeline.add_argument("--source", type=Path, default=SAMPLES / "grace_hopper.jpg", help="photo of the donor")
    pipeline.add_argument("--target", type=Path, default=SAMPLES / "astronaut.jpg", help="portrait to make clips of")
    pipeline.add_argument("--swapper", default="", metavar="NAME", help="of --models; the first there if not named")
    pipeline.add_argument("--enhancer", default="", metavar="NAME", help="of --models; none if not named")
    pipeline.add_argument(
        "--neural-frames", type=int, nargs=2, default=[8, 24], metavar="N",
        help="lengths of the clips that real neural models swap (default: 8 24)",
    )  # fmt: skip

    gate = _parser(what, "gate", "screening an upload: processor time of each part, and whether memory is flat", _GATE)
    gate.add_argument(
        "--seconds", type=float, default=60.0, help="length of the film; what is required holds for 600 (default: 60)"
    )
    gate.add_argument("--size", default="1920x1080", help="size of the film (default: %(default)s)")
    gate.add_argument("--photo", type=Path, default=SAMPLES / "astronaut.jpg", help="portrait to make films of")
    gate.add_argument(
        "--entries", type=int, default=0, help="hashes of a drawn list to compare with, say 1000000 (default: none)"
    )


def _parser(what: Any, name: str, help_: str, description: str | None = None) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = what.add_parser(
        name,
        help=help_,
        description=description or f"{help_[0].upper()}{help_[1:]}.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", type=Path, metavar="DIR", help="a folder of ONNX files, named as in the registry")
    parser.add_argument("--providers", default="auto", help="as IMPRIMATUR_PROVIDERS (default: auto)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the plot goes (default: HOME/bench)")
    return parser
