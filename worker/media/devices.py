"""The device files of a video device, which a confined child opens only when they are granted to it by name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ADDRESS_SPACE: Final = 1 << 46
"""Of a child with a device, in bytes: the driver reserves far more than it uses."""


def device_files(root: Path = Path("/dev")) -> list[Path]:
    """Files of NVIDIA's driver under `root`; none without a device."""
    found = [path for path in root.glob("nvidia*") if not path.is_dir()]
    caps = root / "nvidia-caps"
    if caps.is_dir():
        found += [path for path in caps.iterdir() if not path.is_dir()]
    return sorted(found)
