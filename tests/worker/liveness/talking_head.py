"""Render a clip of a sample portrait that carries out the actions of a liveness challenge, or an attack on it.

    python -m tests.worker.liveness.talking_head --portrait tests/samples/astronaut.jpg \
        --actions turn_left,blink,smile --out clip.y4m --fps 20 --size 640x480

Endings: .mp4, .webm (VP8), .vp9.webm, and for Chromium's `--use-file-for-fake-video-capture` .y4m and .mjpeg. Such a
fake camera plays its file in a loop from the moment the page opens it; `--lead` sets how long the head rests first.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.worker.liveness.camera import filmed
from tests.worker.liveness.head import Head
from tests.worker.liveness.script import ACTIONS, Performance, perform
from tests.worker.liveness.writing import write_clip
from worker.faces.types import ModelRunner, Rgb

MODELS = Path(os.environ.get("IMPRIMATUR_MODELS", "var/models"))


def runner() -> ModelRunner:
    """The built-in models, in this process."""
    from worker.inference.sessions import LocalRunner

    return LocalRunner(MODELS)


def frames_of(
    head: Head, performance: Performance, *, fps: float = 20.0, size: tuple[int, int] = (640, 480), share: float = 0.42
) -> Iterator[Rgb]:
    """The frames of `performance`, uint8 [H, W, 3] RGB; `size` is (width, height). Deterministic."""
    for number in range(max(1, round(performance.seconds * fps))):
        yield head.render(performance.moment(number / fps), size, share)


def render(
    portrait: Path,
    actions: Sequence[str],
    out: Path,
    *,
    fps: float = 20.0,
    size: tuple[int, int] = (640, 480),
    seed: int | None = None,
    models: ModelRunner | None = None,
    **more: float,
) -> Performance:
    """Write the clip of `portrait` carrying out `actions` to `out`, and return what is played in it.

    `seed` gives the person ways of their own; `more` are fields of `Performance` (`lead`, `pause`, `yaw` ...).
    """
    performance = perform(actions, seed, **more)
    head = Head(portrait, models or runner())
    write_clip(out, filmed(frames_of(head, performance, fps=fps, size=size), fps, seed or 0), fps)
    return performance


def _main(arguments: Sequence[str]) -> None:
    from tests.worker.liveness.attacks import ATTACKS, attack

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portrait", type=Path, default=Path("tests/samples/astronaut.jpg"))
    parser.add_argument("--other", type=Path, default=Path("tests/samples/grace_hopper.jpg"), help="second person")
    parser.add_argument("--actions", required=True, help=f"comma-separated, of {', '.join(ACTIONS)}")
    parser.add_argument("--attack", choices=sorted(ATTACKS), help="make this attack on the challenge instead")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fps", type=float, default=20.0)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--lead", type=float, help="seconds of rest before the first action")
    parser.add_argument("--pause", type=float, help="seconds of rest between two actions")
    parser.add_argument("--tail", type=float, help="seconds of rest at the end")
    options = parser.parse_args(arguments)
    actions = tuple(each.strip() for each in options.actions.split(",") if each.strip())
    if not actions or any(each not in ACTIONS for each in actions):
        parser.error(f"actions are {', '.join(ACTIONS)}")
    try:
        width, height = (int(part) for part in options.size.lower().split("x"))
    except ValueError:
        parser.error(f"{options.size!r} is not a size; write it like 640x480")
    size = (width // 2 * 2, height // 2 * 2)
    more = {name: getattr(options, name) for name in ("lead", "pause", "tail") if getattr(options, name) is not None}
    models = runner()
    performance = perform(actions, options.seed, **more)
    if options.attack:
        cast = (Head(options.portrait, models), Head(options.other, models))
        frames = attack(options.attack, cast, performance, fps=options.fps, size=size)
    else:
        frames = frames_of(Head(options.portrait, models), performance, fps=options.fps, size=size)
    write_clip(options.out, filmed(frames, options.fps, options.seed or 0), options.fps)
    for action, begin, end in performance.spans():
        sys.stdout.write(f"{action:<12}{begin:6.2f} .. {end:.2f} s\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
