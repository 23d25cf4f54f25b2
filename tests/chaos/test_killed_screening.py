"""A worker that dies in the middle of screening leaves no asset that is ready without evidence."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.conftest import House
from worker.media.sample_clip import make_clip


@pytest.fixture(scope="module")
def screening_house(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"), models_dir)
    try:
        house.start_worker("ctl", beat=True)
        yield house
    finally:
        house.close()


@pytest.fixture(scope="module")
def clip(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough that a quick machine, too, is seen amid its screening."""
    path = tmp_path_factory.mktemp("long") / "clip.mp4"
    make_clip(samples / "astronaut.jpg", path, seconds=10, size=(640, 480))
    return path


def amid(house: House, asset_id: str, starts: int, before: Any) -> Any:
    """Whether that start has got further than `before`, the progress that an earlier one left; fails if it is over."""
    found = house.do("screening", asset_id=asset_id)
    assert found["state"] in {"uploaded", "screening"}, found
    return found["state"] == "screening" and found["starts"] == starts and found["progress"] != before


def test_an_asset_whose_worker_is_killed_amid_its_screening_is_screened_again_and_ready_only_with_evidence(
    screening_house: House, clip: Path
) -> None:
    house = screening_house
    asset_id = house.do("upload", path=str(clip), role="target")
    for starts in (1, 2):
        before = house.do("screening", asset_id=asset_id)["progress"]
        worker = house.start_worker("cpu.media")
        house.wait(partial(amid, house, asset_id, starts, before), every=0.05)
        house.kill(worker)
        found = house.do("screening", asset_id=asset_id)
        assert found["state"] == "screening"  # nobody has noticed yet, and nobody may use it
        assert (found["records"], found["analysis"], found["previews"]) == ([], False, 0)
        house.wait(lambda: house.do("screening", asset_id=asset_id)["state"] == "uploaded")
    worker = house.start_worker("cpu.media")
    house.wait(lambda: house.do("screening", asset_id=asset_id)["state"] not in {"uploaded", "screening"})
    found = house.do("screening", asset_id=asset_id)
    assert (found["state"], found["starts"]) == ("ready", 3)
    assert found["records"] == ["accept"]  # one, of the start that came to its end
    assert found["analysis"]
    assert house.do("asset", asset_id=asset_id)["faces"]
    house.wait(lambda: house.do("work_folders") == 0)  # also those of the dead
    house.kill(worker)


@pytest.mark.soak  # with a job in every run
def test_an_asset_that_kills_its_worker_in_the_gate_each_time_fails_and_is_never_ready(
    screening_house: House, samples: Path
) -> None:
    house = screening_house
    asset_id = house.do("upload", path=str(samples / "astronaut.jpg"), role="source")
    worker = house.start_worker("cpu.media", include="crashing_gate")
    house.wait(lambda: house.do("screening", asset_id=asset_id)["state"] not in {"uploaded", "screening"})
    found = house.do("screening", asset_id=asset_id)
    assert (found["state"], house.do("asset", asset_id=asset_id)["failure"]["code"]) == ("failed", "worker_crash")
    assert found["starts"] > 1
    assert (found["records"], found["analysis"], found["previews"]) == ([], False, 0)
    assert worker.poll() is None  # only its child died, each time
    house.wait(lambda: house.do("work_folders") == 0)
