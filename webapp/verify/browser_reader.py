"""The reader of Content Credentials that runs in the visitor's browser: `@contentauth/c2pa-web`, fetched at set-up.

Its WebAssembly is too large for a repository, so `manage.py prepare` fetches the pinned package through the ordinary
npm client and checks its hash. Where it is absent the page does without it: the server reads the same things anyway.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from django.conf import settings
from django.templatetags.static import static

PACKAGE: Final = "@contentauth/c2pa-web"
VERSION: Final = "0.13.1"  # MIT
INTEGRITY: Final = "sha512-K4GLdhqIdLE3DUdO0Ub2M6rnyopAnCtdOQhFx2ACayVXo6uLuYlMPRlBivqc4RlvuXMpvJcW2BMu6B1FZpbYhw=="
FILES: Final = {
    "package/dist/c2pa_worker.js": "c2pa_worker.js",
    "package/dist/resources/c2pa_bg.wasm": "c2pa_bg.wasm",
    "package/LICENSE": "LICENSE",
}
NPM_SECONDS: Final = 120


class ReaderError(Exception):
    """The package could not be fetched; `code` is stable: npm_missing, npm_failed, package_changed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def folder() -> Path:
    """Where its files lie; served below /static/vendor/."""
    return Path(settings.VENDOR_DIR) / f"c2pa-web-{VERSION}"


def present() -> bool:
    """Is it there?"""
    return all((folder() / name).is_file() for name in FILES.values())


def address() -> str:
    """The address its files are served under, "" where they are absent."""
    return static(f"vendor/c2pa-web-{VERSION}/") if present() else ""


def install() -> bool:
    """Fetch it unless it is there; True if it was fetched now. Raises ReaderError; nothing half is left."""
    if present():
        return False
    if shutil.which("npm") is None:
        raise ReaderError("npm_missing", "npm is not installed")
    folder().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder().parent, prefix=".c2pa-web-") as scratch:
        archive = _packed(Path(scratch))
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != INTEGRITY:
            raise ReaderError("package_changed", f"{PACKAGE} {VERSION} is not the package that was pinned")
        made = Path(scratch) / "files"
        made.mkdir()
        with tarfile.open(archive) as tar:
            for member, name in FILES.items():
                source = tar.extractfile(member)
                if source is None:
                    raise ReaderError("package_changed", f"{PACKAGE} {VERSION} has no {member}")
                with source, (made / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
        wasm = made / "c2pa_bg.wasm"
        wasm.with_name(f"{wasm.name}.gz").write_bytes(
            gzip.compress(wasm.read_bytes(), 9, mtime=0)
        )  # sent instead of it
        if not present():
            shutil.rmtree(folder(), ignore_errors=True)
        try:
            made.rename(folder())
        except OSError as error:
            if not present():  # else another process was faster
                raise ReaderError("npm_failed", str(error)) from error
    return True


def _packed(scratch: Path) -> Path:
    """The package as npm gives it, unpacked and run by nobody."""
    command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--json", "--ignore-scripts", "--pack-destination", str(scratch)]
    command += [
        "--fetch-retries=1",
        "--fetch-timeout=20000",
        "--no-update-notifier",
    ]  # offline must not hold a set-up up
    try:
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=NPM_SECONDS, check=True)
        return scratch / Path(str(json.loads(done.stdout)[0]["filename"])).name
    except subprocess.CalledProcessError as error:
        raise ReaderError("npm_failed", error.stderr.strip().rpartition("\n")[2]) from error
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
        raise ReaderError("npm_failed", str(error)) from error
