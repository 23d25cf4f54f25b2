"""What every page knows of the house."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from django.conf import settings
from django.http import HttpRequest


def _version() -> str:
    """The installed version, else the one that `pyproject.toml` names (a checkout is not installed)."""
    try:
        return metadata.version("imprimatur")
    except metadata.PackageNotFoundError:
        import tomllib

        path = settings.BASE_DIR / "pyproject.toml"
        return str(tomllib.loads(path.read_text(encoding="utf-8"))["project"]["version"]) if path.exists() else ""


VERSION = _version()


def house(request: HttpRequest) -> dict[str, Any]:
    """Context processor: public address, profile and version of this deployment."""
    return {"PUBLIC_URL": settings.PUBLIC_URL, "profile": settings.PROFILE, "version": VERSION}
