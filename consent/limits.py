"""Limits that others must know before they can ask this room. A leaf: it imports nothing."""

from __future__ import annotations

from typing import Final

CLIP_BYTES: Final = 24 << 20
"""Largest clip of a live selfie; eight seconds at the page's bit rate take about 2 MB, a phone that ignores it more."""
