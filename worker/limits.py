"""Limits that the face code and the gate's policy both hold to. A leaf: it imports nothing."""

from __future__ import annotations

from typing import Final

MIN_FACE_PIXELS: Final = 64
"""Least length of the longer side of a face's box; below it landmarks are not reliable."""

IDENTITY_PASS: Final = 0.45
"""Descriptor distance up to which two faces count as one person (0.2 % false matches in a small test)."""

STRANGERS_ALIKE: Final = 1 / 600
"""The share of strangers nearer than IDENTITY_PASS to one given face (6 of 3600 pairs)."""

IDENTITY_REVIEW: Final = 0.60
"""Distance up to which a person has to look; above it two faces are two people."""

MOST_TURNED_AWAY: Final = 0.05
"""The share of a track's frames that may be turned too far from every source photo: a short turn of the head is
bridged with the nearest photo, because leaving single frames alone would show the other face for a moment."""

NSFW_REVIEW: Final = 0.2
"""Probability of nudity from which a person has to look (the lower band of open_nsfw's authors)."""

NSFW_REJECT: Final = 0.8
"""Probability of nudity from which a file is refused (their upper band)."""

NSFW_VOTES: Final = 0.1
"""Share of a file's pictures that voting packs may agree on before it is refused (FaceFusion's rule for videos)."""

AGE_CHALLENGE: Final = 25.0
"""Estimated years below which a person has to look: an estimator errs by four to six."""

AGE_REJECT: Final = 16.0
"""Estimated years below which a file is refused."""
