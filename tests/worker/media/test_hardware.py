"""Devices: asked for and missing is no failure, and a child gets only the driver's own files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worker.media.devices import device_files
from worker.media.errors import MediaError
from worker.media.planes import Planes
from worker.media.video import VideoReader


@pytest.mark.skipif(bool(list(Path("/dev").glob("nvidia[0-9]*"))), reason="there is a video device here")
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "mpeg4"])
def test_without_a_device_a_video_is_decoded_in_software_to_the_same_bits(make_video, codec):
    path = make_video(codec=codec, seconds=0.4, colour=None)
    seen = {}
    for on_device in (False, True):
        with path.open("rb") as file, VideoReader(file, "mov", on_device=on_device) as reader:
            planes = Planes(reader.size)
            seen[on_device] = []
            for stamp, frame in reader.pictures():
                reader.fill(frame, planes)
                seen[on_device].append((stamp, planes.buffer.copy()))
            assert reader.warnings == (["hardware_decoder_missing"] if on_device else [])
    assert len(seen[False]) == len(seen[True]) == 10
    for (first, before), (second, after) in zip(seen[False], seen[True], strict=True):
        assert first == second
        assert np.array_equal(before, after)


def test_a_damaged_file_is_refused_the_same_way_with_a_device_wished_for(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x18ftypisom" + bytes(200))
    codes = set()
    for on_device in (False, True):
        with path.open("rb") as file, pytest.raises(MediaError) as caught:
            VideoReader(file, "mov", on_device=on_device)
        codes.add(caught.value.code)
    assert len(codes) == 1


def test_device_files_are_the_drivers_and_nothing_else(tmp_path):
    assert device_files(tmp_path) == []
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "sda", "null"):
        (tmp_path / name).touch()
    caps = tmp_path / "nvidia-caps"
    caps.mkdir()
    (caps / "nvidia-cap1").touch()
    found = {str(path.relative_to(tmp_path)) for path in device_files(tmp_path)}
    assert found == {"nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-caps/nvidia-cap1"}
