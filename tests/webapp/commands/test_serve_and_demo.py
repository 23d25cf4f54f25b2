"""The README's two long commands, run as a new user runs them, in a house of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from watermark.manifest import read
from webapp.commands.supervise import offline_parts

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def surroundings(tmp_path: Path, models_dir: Path) -> dict[str, str]:
    """The environment of a fresh machine whose models are built."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DATABASE_URL", "KEYS_URL", "REDIS_URL", "STORAGE_URL", "PYTEST_CURRENT_TEST"}
    }
    return {
        **environment,
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
        "IMPRIMATUR_HOME": str(tmp_path / "home"),
        "IMPRIMATUR_MODELS": str(models_dir),
        "IMPRIMATUR_PROFILE": "evaluation",
    }


def manage(environment: dict[str, str], *words: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def group_members(session: int) -> list[int]:
    """Processes of a session that are still alive (zombies do not count)."""
    alive = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if fields[0] != "Z" and int(fields[3]) == session:
                alive.append(int(entry.name))
    return alive


def test_the_demo_swaps_a_photo_and_every_verdict_is_as_it_must_be(
    surroundings: dict[str, str], samples: Path, tmp_path: Path
) -> None:
    assert manage(surroundings, "prepare").returncode == 0
    out = tmp_path / "out.jpg"
    run = manage(
        surroundings,
        "demo",
        "--source",
        str(samples / "astronaut.jpg"),
        "--target",
        str(samples / "grace_hopper.jpg"),
        "--out",
        str(out),
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("ok\n") == 5  # identity and four verdicts
    verdict = manage(surroundings, "verify", "--json", str(out))
    assert verdict.returncode == 0
    told = json.loads(verdict.stdout)
    assert told["code"] == "ours_intact"
    # The manifest names the output's own public page, which knew its id before anything was signed.
    signed = json.dumps(dict(read(out, "image/jpeg", anchors_pem="").raw))
    assert f"/verify/o/{told['output']['id']}" in signed


def test_the_demo_refuses_a_photo_without_a_face_in_plain_words(
    surroundings: dict[str, str], samples: Path, tmp_path: Path
) -> None:
    from PIL import Image

    wall = tmp_path / "wall.png"
    Image.effect_noise((400, 300), 40).convert("RGB").save(wall)
    assert manage(surroundings, "prepare").returncode == 0
    run = manage(surroundings, "demo", "--source", str(wall), "--target", str(samples / "grace_hopper.jpg"))
    assert run.returncode != 0
    assert "no_face" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("profile", ["standard", "strict", ""])
def test_the_demo_runs_under_the_evaluation_profile_only(surroundings: dict[str, str], profile: str) -> None:
    run = manage({**surroundings, "IMPRIMATUR_PROFILE": profile}, "demo")
    assert run.returncode != 0
    assert "evaluation" in run.stderr
    assert "Traceback" not in run.stderr


def test_serve_answers_tells_the_account_and_stops_without_leaving_anything(surroundings: dict[str, str]) -> None:
    assert manage(surroundings, "prepare").returncode == 0
    port = free_port()
    house = subprocess.Popen(
        [sys.executable, "manage.py", "serve", "--port", str(port)],
        cwd=ROOT,
        env=surroundings,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert house.stdout is not None
        said = ""
        for line in house.stdout:
            said += line
            if line.startswith("Ctrl-C"):
                break
        assert "cleo@example.org" in said
        assert "partner key" in said
        children = [int(word) for word in Path(f"/proc/{house.pid}/task/{house.pid}/children").read_text().split()]
        assert len(children) == 2 + len(offline_parts())
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
            assert answer.status == 200
        key = said.split("partner key")[1].split()[0]
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/jobs", headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["data"] == []
        second = manage(surroundings, "serve", "--port", str(port), timeout=60)
        assert second.returncode != 0
        assert "is taken" in second.stderr
        house.send_signal(signal.SIGINT)
        started = time.monotonic()
        house.wait(40)
        assert time.monotonic() - started < 30
        assert house.returncode == 0
        assert [member for child in children for member in group_members(child)] == []
    finally:
        if house.poll() is None:
            house.kill()
            house.wait()


def test_each_device_has_a_worker_for_long_videos_and_an_engine_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-5f")
    parts = offline_parts()
    assert [part.environment["CUDA_VISIBLE_DEVICES"] for part in parts] == ["2", "GPU-5f"]
    assert len({part.environment["IMPRIMATUR_DEVICE"] for part in parts}) == 2
    for part in parts:
        assert part.command[part.command.index("--concurrency") + 1] == "1"
        assert part.command[part.command.index("--queues") + 1] == "offline"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    (alone,) = offline_parts()
    assert alone.environment == {}
