"""Viterbi decoder of the tail-biting code in `payload`, for one word or a list. Imported only by readers (numba)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from watermark.compiled import compiled
from watermark.payload import GENERATORS, INFO_BITS, MEMORY

_STATES = 1 << MEMORY
_MARGIN = 60
"""Steps run before and after the hundred that are kept: a survivor path is settled four constraint lengths back.

Without the steps after, the last bits of the message would be protected by a handful of coded bits only.
"""
_LEVELS = 127
"""Soft bits are rounded to +-127. Metrics of two states differ by what 14 steps can add, so by less than 2**15."""
_RUN = 32


def _labels() -> NDArray[np.uint8]:
    """uint8 [2**13]: the six output bits (as a number) of the register (state << 1) for states below 2**13.

    Every generator has its first and last tap set, so the three other branches of a butterfly carry this label or its
    complement, and the decoder needs no more than this table.
    """
    register = np.arange(_STATES // 2, dtype=np.int64) << 1
    label = np.zeros(len(register), np.uint8)
    for position, generator in enumerate(GENERATORS):
        parity = register & generator
        for shift in (8, 4, 2, 1):
            parity ^= parity >> shift
        label |= ((parity & 1) << position).astype(np.uint8)
    return label


_LABELS = _labels()
_SIGNS = (1 - 2 * ((np.arange(1 << len(GENERATORS))[:, None] >> np.arange(len(GENERATORS))) & 1)).astype(np.float32)


@compiled
def _forward(branch: Any, labels: Any, margin: int, run: int) -> Any:
    """Lead of the odd predecessor over the even one, int16 [steps + 2 margin, states], and the best last state."""
    steps, words = branch.shape
    half = labels.shape[0]
    states = 2 * half
    metric = np.zeros(states, np.int32)
    following = np.empty(states, np.int32)
    total = steps + 2 * margin
    lead = np.empty((total, states), np.int16)
    # Labels are linear, so those of a run of states are those of the first run, each XOR the same word: the branch
    # metrics of a run for every such word are laid out once a step, and the long loop reads them in order.
    runs = np.empty((words, run), np.int32)
    for t in range(total):
        row = branch[(t - margin) % steps]
        for word in range(words):
            for s in range(run):
                runs[word, s] = row[labels[s] ^ word]
        for first in range(0, half, run):
            last = first + run
            costs = runs[labels[first]]
            before = metric[2 * first : 2 * last]
            zero, one = following[first:last], following[half + first : half + last]
            lead_zero, lead_one = lead[t, first:last], lead[t, half + first : half + last]
            for i in range(run):
                even, odd = before[2 * i], before[2 * i + 1]
                stay, move = np.int32(even + costs[i]), np.int32(odd - costs[i])
                lead_zero[i] = np.int16(move - stay)
                zero[i] = max(stay, move)
                stay, move = np.int32(even - costs[i]), np.int32(odd + costs[i])
                lead_one[i] = np.int16(move - stay)
                one[i] = max(stay, move)
        metric, following = following, metric
    return lead, np.argmax(metric)


@compiled
def _trace(lead: Any, last: int, leave: Any, bits: Any, losses: Any) -> None:
    """Follow the survivors back from state `last`, leaving them where `leave` says; `losses`: what leaving costs."""
    total, states = lead.shape
    state = last
    for t in range(total - 1, -1, -1):
        bits[t] = 1 if state >= states // 2 else 0
        gap = lead[t, state]
        losses[t] = abs(np.int32(gap))
        odd = (gap > 0) != leave[t]
        state = ((state << 1) & (states - 1)) | odd


@compiled
def _list_paths(lead: Any, last: int, margin: int, memory: int, count: int) -> Any:
    total = lead.shape[0]
    steps = total - 2 * margin
    # A path that rejoins at step t differs at bits t - memory and before; one period of such steps sees every detour.
    first = margin + memory
    words = np.zeros((count, steps), np.uint8)
    leaves = np.zeros((count, total), np.bool_)
    bits = np.empty((count, total), np.uint8)
    losses = np.empty((count, total), np.int32)
    price = np.zeros(count, np.int64)
    newest = np.full(count, first + steps)
    used = np.zeros((count, total), np.bool_)
    found = 0
    while found < count:
        if found > 0:
            cheapest, parent, where = np.int64(1) << 40, -1, -1
            for k in range(found):
                for t in range(first, newest[k]):
                    cost = price[k] + losses[k, t]
                    if not used[k, t] and cost < cheapest:
                        cheapest, parent, where = cost, k, t
            if parent < 0:
                break
            used[parent, where] = True
            leaves[found] = leaves[parent]
            leaves[found, where] = True
            price[found] = cheapest
            newest[found] = where
        _trace(lead, last, leaves[found], bits[found], losses[found])
        words[found] = bits[0, margin : margin + steps]
        for t in range(total):
            if bits[found, t] != bits[0, t]:
                words[found, (t - margin) % steps] ^= 1
        fresh = True
        for k in range(found):
            if (words[k] == words[found]).all():
                fresh = False
        if fresh:
            found += 1
        else:
            leaves[found] = False
    return words[:found]


def decode_list(soft: NDArray[np.float32], count: int) -> NDArray[np.uint8]:
    """The `count` most likely different messages for `soft` (float32 [600], positive favours 0); uint8 [count, 100].

    Best first. A circular Viterbi keeps, beside each decision, what the
    other one would have cost; the next best path is always one that leaves a path already listed once more, at the
    smallest cost (Seshadri and Sundberg, List Viterbi decoding algorithms with applications, IEEE Trans. Commun. 42,
    1994). A detour across the seam counts at both ends.
    """
    scale = np.float32(_LEVELS / max(float(np.abs(soft).max(initial=0.0)), 1e-9))
    levels = np.rint(soft * scale).reshape(INFO_BITS, len(GENERATORS))
    branch = np.ascontiguousarray(levels @ _SIGNS.T, np.int32)
    lead, last = _forward(branch, _LABELS, _MARGIN, _RUN)
    words: NDArray[np.uint8] = _list_paths(lead, last, _MARGIN, MEMORY, count)
    return words
