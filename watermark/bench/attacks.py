"""The attack list of the bench: name -> attack, in the order of the report."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from watermark.bench.attack_kit import GROUPS, Attack, Group, plain
from watermark.bench.attacks_chain import CHAIN
from watermark.bench.attacks_codec import CODEC
from watermark.bench.attacks_geometric import GEOMETRIC
from watermark.bench.attacks_occlusion import OCCLUSION
from watermark.bench.attacks_removal import REMOVAL
from watermark.bench.attacks_value import VALUEMETRIC

_NONE = Attack("none", "valuemetric", plain(lambda rgb: rgb.copy()), "nothing: the marked picture itself")
_ALL = (_NONE, *VALUEMETRIC, *CODEC, *GEOMETRIC, *OCCLUSION, *CHAIN, *REMOVAL)
ATTACKS: dict[str, Attack] = {attack.name: attack for attack in _ALL}


def seeded(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on `seed` and `names` alone, so that leaving out rows changes no other row."""
    return np.random.Generator(np.random.PCG64([seed, *(zlib.crc32(name.encode()) for name in names)]))


def chosen(names: Sequence[str] = (), groups: Iterable[Group] = ()) -> list[Attack]:
    """Attacks by name and by group; all when neither is given. Raises KeyError for a name that is none."""
    wanted = set(groups)
    if not names and not wanted:
        return list(ATTACKS.values())
    for name in names:
        if name not in ATTACKS:
            raise KeyError(name)
    return [attack for attack in ATTACKS.values() if attack.name in names or attack.group in wanted]


__all__ = ["ATTACKS", "GROUPS", "Attack", "Group", "chosen", "seeded"]
