"""How the browser's reader is fetched: by npm, pinned, and whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from webapp.commands.management.commands.prepare import Command
from webapp.verify import browser_reader
from webapp.verify.browser_reader import FILES, ReaderError


def package(**files: bytes) -> bytes:
    """A package as npm packs it, with something else in it that must not be taken."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in {**dict.fromkeys(FILES, b"content"), "package/../../evil": b"no", **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Path:
    """An npm that packs the file beside it; `command` is what it was asked for."""
    settings.VENDOR_DIR = tmp_path / "vendor"
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "npm"
    script.write_text(
        f"""#!/bin/sh
        echo "$@" > {folder}/command
        while [ "$1" != --pack-destination ]; do shift; done
        cp {folder}/package "$2/c2pa-web.tgz" || {{ echo 'npm error offline' >&2; exit 1; }}
        echo '{json.dumps([{"filename": "c2pa-web.tgz"}])}'
        """,
        encoding="utf-8",
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def pin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    monkeypatch.setattr(browser_reader, "INTEGRITY", f"sha512-{digest}")


def test_the_pinned_package_is_fetched_once(npm: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (npm / "package").write_bytes(package())
    pin(monkeypatch, package())
    assert browser_reader.address() == ""
    assert browser_reader.install()
    assert not browser_reader.install()
    assert "@contentauth/c2pa-web@0.13.1" in (npm / "command").read_text()
    assert "--ignore-scripts" in (npm / "command").read_text()
    there = {each.name for each in browser_reader.folder().iterdir()}
    assert there == {*FILES.values(), "c2pa_bg.wasm.gz"}
    assert browser_reader.address() == "/static/vendor/c2pa-web-0.13.1/"
    assert not (tmp_path / "evil").exists()
    assert [each.name for each in browser_reader.folder().parent.iterdir()] == [browser_reader.folder().name]


def test_another_package_under_the_same_name_is_not_taken(npm: Path) -> None:
    (npm / "package").write_bytes(package())
    with pytest.raises(ReaderError) as raised:
        browser_reader.install()
    assert raised.value.code == "package_changed"
    assert not browser_reader.present()
    assert list(browser_reader.folder().parent.iterdir()) == []


def test_without_npm_or_network_the_set_up_goes_on_and_says_so(
    npm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ReaderError) as raised:
        browser_reader.install()
    assert raised.value.code == "npm_failed"
    assert "offline" in str(raised.value)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ReaderError) as raised:
        browser_reader.install()
    assert raised.value.code == "npm_missing"
    Command()._reader(1)
    assert "npm_missing" in capsys.readouterr().err


def test_the_pages_script_names_the_hash_of_that_very_webassembly() -> None:
    """The browser refuses any other; both come from the same package."""
    if not browser_reader.present():
        pytest.skip("@contentauth/c2pa-web is not fetched here (manage.py prepare)")
    digest = hashlib.sha512((browser_reader.folder() / "c2pa_bg.wasm").read_bytes()).digest()
    script = Path(browser_reader.__file__).parents[1] / "static" / "credentials.js"
    assert f"sha512-{base64.b64encode(digest).decode()}" in script.read_text(encoding="utf-8")
