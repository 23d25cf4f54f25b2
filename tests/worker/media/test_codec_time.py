"""What codecs take is told apart from what we do beside them, whichever thread it is in."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from worker.media import codec_time

CODE = """
import sys, threading, time
import av, numpy as np
from worker.media import codec_time
from worker.media.codec_time import called, codec_seconds, thread_ends

def spin(seconds):
    begin = time.thread_time()
    while time.thread_time() - begin < seconds:
        pass

def ours():
    spin(0.2)
    with called():
        spin(0.3)
    thread_ends()

before = codec_seconds()  # libraries may have threads of their own from their import on
thread = threading.Thread(target=ours)
thread.start(); thread.join()
spin(0.1)
print(codec_seconds() - before)

clip = av.open(sys.argv[1])
stream = clip.streams.video[0]
stream.codec_context.thread_count, stream.codec_context.thread_type = 2, "FRAME"
before, whole = codec_seconds(), time.process_time()
for packet in clip.demux(stream):
    with called():
        packet.decode()
took = codec_seconds() - before
whole = time.process_time() - whole
print(took / whole)
"""


def test_calls_and_threads_of_codecs_count_and_ours_do_not(tmp_path: Path, samples: Path) -> None:
    from worker.media.sample_clip import make_clip

    make_clip(samples / "astronaut.jpg", tmp_path / "clip.mp4", seconds=2, size=(1280, 720), sound=False)
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "clip.mp4")],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    called, share = (float(line) for line in done.stdout.split())
    assert 0.25 < called < 0.4
    assert 0.85 < share <= 1.0


def test_it_never_goes_down_below_nothing() -> None:
    thread = threading.Thread(target=codec_time.thread_ends)
    thread.start()
    thread.join()
    assert codec_time.codec_seconds() >= 0
