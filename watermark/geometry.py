"""How the picture at hand lies relative to the picture that was marked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Geometry:
    """Affine map from pixel centres of the read picture to the marked picture's canonical frame (short side 512).

    canonical = (a x + b y + tx, c x + d y + ty). The mark repeats, so (tx, ty) is known modulo `period` canonical
    pixels, the side of its tile. `inverted`: the picture came as a negative. `whole`: the map is that of an uncropped,
    unturned picture. A picture in perspective has no single affine map; this is then the one nearest to its own.
    """

    a: float
    b: float
    c: float
    d: float
    tx: float
    ty: float
    period: int
    inverted: bool = False
    whole: bool = False

    @property
    def matrix(self) -> NDArray[np.float64]:
        """float64 [2, 2]."""
        return np.array([[self.a, self.b], [self.c, self.d]])

    @property
    def mirrored(self) -> bool:
        """True when the picture was mirrored."""
        return self.a * self.d - self.b * self.c < 0

    @property
    def rotation(self) -> float:
        """Degrees the read picture is turned against the marked one, counter-clockwise as seen, in (-180, 180]."""
        sign = -1.0 if self.mirrored else 1.0
        return math.degrees(math.atan2(self.c - sign * self.b, self.d + sign * self.a))

    @property
    def scale(self) -> float:
        """Canonical pixels per pixel of the read picture (geometric mean of both directions)."""
        return math.sqrt(abs(self.a * self.d - self.b * self.c))

    def to_json(self) -> dict[str, Any]:
        """Plain values for a record."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(**data)
