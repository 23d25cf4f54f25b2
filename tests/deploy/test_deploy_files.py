"""The deployment files hold what the product promises: no root, no default profile, pinned hashes, no index host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = ["Dockerfile.web", "Dockerfile.worker"]
INSTRUCTIONS = {
    "FROM", "RUN", "CMD", "LABEL", "EXPOSE", "ENV", "ADD", "COPY", "ENTRYPOINT", "VOLUME", "USER", "WORKDIR", "ARG",
    "HEALTHCHECK", "STOPSIGNAL", "SHELL",
}  # fmt: skip


def instructions(name: str) -> list[tuple[str, str]]:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines()]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_is_well_formed_and_does_not_run_as_root(name: str) -> None:
    steps = instructions(name)
    assert steps[0][0] == "FROM"
    assert {step for step, _ in steps} <= INSTRUCTIONS
    final = steps[max(index for index, (step, _) in enumerate(steps) if step == "FROM") :]
    assert ("USER", "imprimatur") in final
    assert final.index(("USER", "imprimatur")) < [step for step, _ in final].index("CMD")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_an_image_copies_exists_and_bases_are_pinned(name: str) -> None:
    for step, rest in instructions(name):
        if step == "FROM":
            image = rest.split()[0]
            assert ":" in image
            assert not image.endswith(":latest")
        if step == "COPY" and not rest.startswith("--from"):
            for path in rest.split()[:-1]:
                assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", DOCKERFILES)
def test_no_image_sets_a_profile_or_a_secret(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert "IMPRIMATUR_PROFILE=" not in text
    assert "SECRET" not in text
    assert "MASTER_KEY" not in text


def test_compose_names_only_what_exists(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        assert "image" in service or "build" in service, name
        for other in service.get("depends_on", {}):
            assert other in services
        for mount in service.get("volumes", []):
            volume = mount.split(":")[0]
            assert volume in compose["volumes"], mount
        for secret in service.get("secrets", []):
            assert secret in compose["secrets"]
        if "build" in service:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_compose_asks_for_the_profile_and_the_outside_address(compose: dict[str, Any]) -> None:
    environment = compose["services"]["web"]["environment"]
    assert ":?" in environment["IMPRIMATUR_PROFILE"]
    assert ":?" in environment["PUBLIC_URL"]


def test_compose_fences_our_containers_in(compose: dict[str, Any]) -> None:
    for name in ("web", "worker", "scheduler", "prepare"):
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert "privileged" not in service
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:8000:8000"]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_every_pinned_package_carries_hashes_and_no_index_is_named(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert "http" not in text
    pins = re.findall(r"^[a-z0-9][^\s=]*==\S+.*?(?=^\S|\Z)", text, re.M | re.S)
    assert len(pins) > 30
    assert all("--hash=sha256:" in pin for pin in pins)


def test_the_development_lock_agrees_with_the_runtime_lock() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9][^\s=\[]*)\S*?==(\S+)", (DEPLOY / name).read_text(encoding="utf-8"), re.M))

    runtime, development = pins("requirements.lock"), pins("requirements-dev.lock")
    assert runtime.items() <= development.items()


def test_no_gpl_package_is_imported_by_name() -> None:
    lock = (DEPLOY / "requirements.lock").read_text(encoding="utf-8")
    for package in ("pymerkle", "pillow-heif", "nudenet", "ultralytics", "insightface", "dlib=="):
        assert package not in lock
