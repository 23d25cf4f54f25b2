"""Sheets of what each choice of a job does to a picture, to look at: `python -m tests.worker.looks OUT`.

Whole jobs on the sample portraits, each with its label and mark, as people get them. The built-in swapper is the real
one; the models of an operator are stand-ins whose work can be seen: the swapper paints the face greenish, the
occluder takes for the face what is as red as skin, the enhancer sharpens, the upscaler repeats pixels.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.worker import neural_graphs as graphs
from watermark.keys import derive_mark_key
from watermark.pattern import derive
from worker.inference.client import ensure_engine, stop_engine
from worker.inference.importing import cache_of
from worker.inference.store import ModelStore
from worker.pipeline.chosen_models import with_models
from worker.pipeline.run import analyse, run_job
from worker.spec import JobSpec, Masking, SourcePhoto, Swap

SAMPLES = Path(__file__).parents[1] / "samples"
SWAPPER, ENHANCER, OCCLUDER, PARSER = "inswapper_128", "gfpgan_1.4", "xseg_1", "bisenet_resnet_34"
UPSCALER = "real_esrgan_x2"
TILE, TITLE, COLUMNS = 420, 30, 4
_MODEL = {"swapper": SWAPPER}
SHEETS: dict[str, dict[str, dict[str, Any]]] = {
    "built-in": {
        "feather": {},
        "multiband": {"blend": "multiband"},
        "poisson": {"blend": "poisson"},
        "mark durable": {"mark_mode": "durable"},
    },
    "model-blends": {
        "feather": _MODEL,
        "multiband": {**_MODEL, "blend": "multiband"},
        "poisson": {**_MODEL, "blend": "poisson"},
        "feather, colours matched": {**_MODEL, "colour_match": True},
        "multiband, colours matched": {**_MODEL, "blend": "multiband", "colour_match": True},
        "pixel boost 1": {**_MODEL, "pixel_boost": 1},
        "pixel boost 2": {**_MODEL, "pixel_boost": 2},
        "pixel boost 4": {**_MODEL, "pixel_boost": 4},
    },
    "model-masks": {
        name: {**_MODEL, "masking": masking}
        for name, masking in {
            "box": Masking(),
            "box, blur 0": Masking(blur=0.0),
            "box, 40 % below left out": Masking(padding=(0, 0, 40, 0)),
            "occlusion": Masking(types=("occlusion",), models=(OCCLUDER,)),
            "box and occlusion (auto)": Masking(types=("auto",)),
            "region: skin": Masking(types=("region",), models=(PARSER,), regions=("skin",)),
            "region: nose (none seen)": Masking(types=("region",), models=(PARSER,), regions=("nose",)),
            "area: all": Masking(types=("area",)),
            "area: upper face": Masking(types=("area",), areas=("upper_face",)),
            "area: lower face": Masking(types=("area",), areas=("lower_face",)),
            "area: mouth": Masking(types=("area",), areas=("mouth",)),
            "all together": Masking(types=("box", "occlusion", "region", "area"), models=(OCCLUDER, PARSER)),
        }.items()
    },
    "enhancer-upscaler": {
        "no enhancer": _MODEL,
        "enhancer 40 %": {**_MODEL, "enhancer": ENHANCER, "enhancer_blend": 40},
        "enhancer 80 % (default)": {**_MODEL, "enhancer": ENHANCER},
        "enhancer 100 %": {**_MODEL, "enhancer": ENHANCER, "enhancer_blend": 100},
        "enhancer, lower face only": {
            **_MODEL, "enhancer": ENHANCER, "masking": Masking(types=("area",), areas=("lower_face",)),
        },
        "upscaler x2, built-in swap": {"upscaler": UPSCALER},
        "upscaler x2, model and enhancer": {**_MODEL, "enhancer": ENHANCER, "upscaler": UPSCALER},
    },
}  # fmt: skip


def main(out: Path, models_dir: Path) -> list[Path]:
    """Write a PNG file a sheet into `out`; `models_dir` holds the built-in models."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        os.environ["IMPRIMATUR_OPERATOR_MODELS"] = str(work / "operator")
        graphs.install(ModelStore(work / "operator", cache_of(models_dir)), **_stand_ins())
        engine = ensure_engine(work / "engine", models_dir=models_dir, providers="prefer:cpu")
        try:
            for title, choices in SHEETS.items():
                written.append(out / f"{title}.png")
                cv2.imwrite(str(written[-1]), _sheet(list(_tiles(choices, work, engine)))[..., ::-1])
        finally:
            stop_engine(work / "engine")
    return written


def _stand_ins() -> dict[str, Any]:
    """Graphs of the exact contracts."""
    made = {name: graphs.graph_of(name) for name in ("yoloface_8n", "2dfan4", "arcface_w600k_r50", UPSCALER)}
    made |= {PARSER: graphs.parser(red=1), OCCLUDER: _skin(), SWAPPER: _green(), ENHANCER: _sharper()}
    return made


def _green() -> Any:
    """The target, its red and blue lowered."""
    graph = graphs.Graph()
    graph.input("source", 512)
    target = graph.input("target", 3, 128, 128)
    tint = graph.weight(np.reshape([0.55, 1.0, 0.55], (1, 3, 1, 1)))
    graph.output(graph.op("Mul", target, tint), "output", 3, 128, 128)
    graph.weight(np.eye(512))  # where the published file keeps what an embedding is multiplied with
    return graph.model()


def _skin() -> Any:
    """Redder than blue by a tenth is the face."""
    graph = graphs.Graph()
    seen = graph.input("input", 256, 256, 3)
    weights = graph.weight(np.reshape([-10.0, 0.0, 10.0], (3, 1)))
    graph.output(graph.op("MatMul", seen, weights), "output", 256, 256, 1)
    return graph.model()


def _sharper() -> Any:
    """The picture with its edges raised much."""
    graph = graphs.Graph()
    seen = graph.input("input", 3, 512, 512)
    kernel = np.full((3, 1, 25, 25), -2.0 / 625, np.float32)
    kernel[:, :, 12, 12] += 3.0
    sharp = graph.op("Conv", seen, graph.weight(kernel), group=3, pads=[12, 12, 12, 12])
    graph.output(graph.op("Clip", sharp, graph.weight(-1.0), graph.weight(1.0)), "output", 3, 512, 512)
    return graph.model()


def _tiles(choices: dict[str, dict[str, Any]], work: Path, engine: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The target, and it after each job; uint8 [H, W, 3] RGB."""
    source, target = SAMPLES / "grace_hopper.jpg", SAMPLES / "astronaut.jpg"
    mark = derive(bytes(range(8)), derive_mark_key(bytes(32), deployment="looks", year=2026)).to_bytes()
    if not (work / "analysis").exists():
        analyse(target, work / "analysis", engine_socket=engine, work_dir=work)
    yield "the target", cv2.imread(str(target))[..., ::-1]
    for number, (title, choice) in enumerate(choices.items()):
        spec = JobSpec(
            job_id="looks",
            kind="photo",
            target_path=target,
            target_sha256=_sha256(target),
            analysis_path=work / "analysis",
            output_path=work / f"{number}.png",
            output_mime="image/png",
            swaps=(Swap(0, (SourcePhoto(source, _sha256(source)),)),),
            **choice,
        )
        spec, cards = with_models(spec, lambda: engine)
        result = run_job(spec, pattern=mark, engine_socket=engine, cards=cards)
        yield title, cv2.imread(str(result.output))[..., ::-1]
        result.output.unlink()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sheet(tiles: list[tuple[str, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Titled tiles of the head and its surroundings, row by row."""
    made = []
    for title, rgb in tiles:
        height, width = rgb.shape[:2]
        part = rgb[round(height * 0.04) : round(height * 0.48), round(width * 0.22) : round(width * 0.66)]
        small = cv2.resize(part, (TILE, TILE), interpolation=cv2.INTER_LINEAR)
        text = np.full((TITLE, TILE, 3), 255, np.uint8)
        cv2.putText(text, title, (6, 21), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
        made.append(np.vstack([text, small]))
    made += [np.full_like(made[0], 255)] * (-len(made) % COLUMNS)
    return np.vstack([np.hstack(made[start : start + COLUMNS]) for start in range(0, len(made), COLUMNS)])


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
    from django.conf import settings

    for file in main(Path(sys.argv[1] if len(sys.argv) > 1 else "var/looks"), settings.MODELS_DIR):
        sys.stdout.write(f"{file}\n")
