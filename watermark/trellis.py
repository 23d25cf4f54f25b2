"""Viterbi decoder of the tail-biting code in `payload`. Imported only by readers (numba)."""

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
def _viterbi(branch: Any, labels: Any, margin: int) -> Any:
    steps = branch.shape[0]
    half = labels.shape[0]
    states = 2 * half
    metric = np.zeros(states, np.float32)
    following = np.empty(states, np.float32)
    total = steps + 2 * margin
    choice = np.empty((total, states), np.uint8)
    for t in range(total):
        row = branch[(t - margin) % steps]
        taken = choice[t]
        for s in range(half):
            m = row[labels[s]]
            even = metric[2 * s]
            odd = metric[2 * s + 1]
            stay, move = even + m, odd - m
            taken[s] = move > stay
            following[s] = max(stay, move)
            stay, move = even - m, odd + m
            taken[s + half] = move > stay
            following[s + half] = max(stay, move)
        metric, following = following, metric
    state = np.argmax(metric)
    bits = np.empty(steps, np.uint8)
    for t in range(total - 1, margin - 1, -1):
        if t < margin + steps:
            bits[t - margin] = 1 if state >= half else 0
        state = ((state << 1) & (states - 1)) | choice[t, state]
    return bits


def decode_tail_biting(soft: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Most likely message for `soft` (float32 [600], positive favours 0); uint8 [100]. Circular Viterbi."""
    scale = np.float32(max(float(np.abs(soft).max(initial=0.0)), 1e-9))
    branch = (soft / scale).reshape(INFO_BITS, len(GENERATORS)) @ _SIGNS.T
    bits: NDArray[np.uint8] = _viterbi(np.ascontiguousarray(branch, np.float32), _LABELS, _MARGIN)
    return bits
