"""Which stretches of a film show the same person, told by their descriptors once all of it was seen.

A tracker follows a face for as long as it can be sure of it; over a cut, a crossing or a long absence it begins a new
stretch. A permission hangs on a person, so what is put together here must be certain: two stretches become one person
only if their descriptors are near, if no other person is about as near, and if they are never seen at the same time.
What stays open is a person of its own, whose face is left alone unless somebody names it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.faces.types import Floats

_MOST: Final = 1500
"""Stretches that are compared with one another: memory and time grow with the square. A crowd beyond it stays apart."""
_FEW_FRAMES: Final = 3
UNSURE: Final = -1
"""The track of faces that were seen too shortly between two others to be anybody in particular."""
_SHORT_FRAMES: Final = 12


@dataclass(frozen=True)
class Stretch:
    """One face followed without doubt, from frame `first` to frame `last`, seen in `frames` of them.

    `descriptor` float32 [D], None where it was never seen well enough. `follows` is the stretch of which this one is
    the continuation by place alone, None at the start of a shot and after an absence. `doubtful`: it began in the
    middle of a shot, so it may be a mistake of a few frames.
    """

    number: int
    first: int
    last: int
    frames: int
    descriptor: Floats | None
    follows: int | None = None
    doubtful: bool = False


def group(
    stretches: Sequence[Stretch], apart: Callable[[Floats, Floats], float], *, same: float, margin: float, other: float
) -> dict[int, int]:
    """The person of every stretch, named by the least number of that person's stretches; UNSURE for short remains.

    `apart` measures descriptors; up to `same` two are one person, unless another person is nearer than `margin` more;
    beyond `other` they are surely two.
    """
    known = [one for one in stretches if one.descriptor is not None and one.frames >= _FEW_FRAMES][:_MOST]
    merging = _Merging(known, apart)
    merging.run(same, margin)
    persons = {one.number: one.number for one in stretches}
    for members in merging.groups():
        least = min(one.number for one in members)
        persons.update({one.number: least for one in members})
    alone = {person for person, count in Counter(persons.values()).items() if count == 1}
    _bridge(stretches, persons, alone, apart, other)
    for one in stretches:
        if one.doubtful and one.frames < _SHORT_FRAMES and persons[one.number] in alone:
            persons[one.number] = UNSURE
    return persons


def described(stretches: Sequence[Stretch], persons: Mapping[int, int]) -> dict[int, Floats]:
    """The descriptor of every person, the mean of its stretches' by their lengths."""
    sums: dict[int, tuple[float, Floats]] = {}
    for one in stretches:
        if one.descriptor is None or persons[one.number] == UNSURE:
            continue
        weight, total = sums.get(persons[one.number], (0.0, np.zeros_like(one.descriptor)))
        sums[persons[one.number]] = (weight + one.frames, total + one.frames * one.descriptor)
    return {person: np.asarray(total / weight, np.float32) for person, (weight, total) in sums.items()}


class _Merging:
    """Puts the nearest two groups together, again and again."""

    def __init__(self, stretches: Sequence[Stretch], apart: Callable[[Floats, Floats], float]) -> None:
        self._apart = apart
        self._members: list[list[Stretch]] = [[one] for one in stretches]
        self._means: list[Floats] = [one.descriptor for one in stretches if one.descriptor is not None]
        count = len(stretches)
        self._distance: NDArray[np.float64] = np.full((count, count), np.inf)
        self._together: NDArray[np.bool_] = np.zeros((count, count), np.bool_)  # seen at the same time
        self._gone: NDArray[np.bool_] = np.zeros(count, np.bool_)
        for row in range(count):
            self._measure(row, range(row))

    def groups(self) -> list[list[Stretch]]:
        """The stretches of each person."""
        return [members for members, gone in zip(self._members, self._gone, strict=True) if not gone]

    def run(self, same: float, margin: float) -> None:
        """Merge while two groups are surely one person."""
        open_: NDArray[np.float64] = self._free()
        while open_.size:
            row, column = (int(place) for place in np.unravel_index(int(np.argmin(open_)), open_.shape))
            nearest = float(open_[row, column])
            if not nearest <= same:
                return
            if self._doubtful(row, column, nearest + margin) or self._doubtful(column, row, nearest + margin):
                open_[row, column] = open_[column, row] = np.inf
                continue
            self._merge(row, column)
            open_ = self._free()

    def _free(self) -> NDArray[np.float64]:
        """Distances of the groups that may be merged, others infinite."""
        return np.where(self._together, np.inf, self._distance)

    def _doubtful(self, one: int, partner: int, reach: float) -> bool:
        """Whether somebody else, who cannot be the partner, is about as near to `one` as the partner is."""
        rivals = (self._distance[one] <= reach) & self._together[partner]
        rivals[[one, partner]] = False
        return bool(rivals.any())

    def _merge(self, kept: int, taken: int) -> None:
        counts = [sum(one.frames for one in self._members[place]) for place in (kept, taken)]
        mean = (counts[0] * self._means[kept] + counts[1] * self._means[taken]) / sum(counts)
        self._means[kept] = np.asarray(mean, np.float32)
        self._members[kept] += self._members[taken]
        self._gone[taken] = True
        self._distance[taken] = self._distance[:, taken] = np.inf
        self._together[kept] |= self._together[taken]
        self._together[:, kept] = self._together[kept]
        self._measure(kept, range(len(self._members)))

    def _measure(self, row: int, columns: Iterable[int]) -> None:
        for column in columns:
            if column == row or self._gone[column]:
                continue
            distance = self._apart(self._means[row], self._means[column])
            self._distance[row, column] = self._distance[column, row] = distance
            both = any(_overlap(one, other) for one in self._members[row] for other in self._members[column])
            self._together[row, column] = self._together[column, row] = both


def _bridge(
    stretches: Sequence[Stretch],
    persons: dict[int, int],
    alone: Collection[int],
    apart: Callable[[Floats, Floats], float],
    other: float,
) -> None:
    """A short stretch between two of one person, which it leads from the one to the other, is that person, too.

    So it is where two faces meet and part again: what lies between is too unsure to be told by its descriptor.
    """
    by_number = {one.number: one for one in stretches}
    after = {one.follows: one.number for one in stretches if one.follows is not None}
    for one in stretches:
        if persons[one.number] not in alone:
            continue
        before, behind = one.follows, after.get(one.number)
        if before is None or behind is None or persons[before] != persons[behind]:
            continue
        person = persons[before]
        members = [by_number[number] for number, name in persons.items() if name == person]
        if any(_overlap(one, member) for member in members):
            continue
        told = [member.descriptor for member in members if member.descriptor is not None]
        if one.descriptor is not None and told and apart(one.descriptor, np.mean(told, axis=0)) > other:
            continue
        persons[one.number] = person


def _overlap(one: Stretch, other: Stretch) -> bool:
    return one.first <= other.last and other.first <= one.last
