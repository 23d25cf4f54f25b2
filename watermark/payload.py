"""What the mark says: 64 random bits and a 36-bit keyed check, under a convolutional code.

The code is the tail-biting K=15, rate 1/6 code with the octal generators 46321 51271 63667 70535 73277 76513 (Lin and
Costello, Error Control Coding, table of maximum free distance codes). Tail biting costs no tail bits; the check makes a
wrong accept as rare as 2**-36 per attempt to decode.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

import numpy as np
from numpy.typing import NDArray

from watermark.keys import MarkKey
from watermark.mark_errors import MarkError

ID_BITS = 64
CHECK_BITS = 36
INFO_BITS = ID_BITS + CHECK_BITS
MEMORY = 14
GENERATORS = (0o46321, 0o51271, 0o63667, 0o70535, 0o73277, 0o76513)
CODED_BITS = INFO_BITS * len(GENERATORS)
_CHECK_PURPOSE = b"imprimatur mark check v1|"


def new_mark_id() -> bytes:
    """Draw a fresh mark id: 8 bytes from the operating system's generator, one per output."""
    return secrets.token_bytes(ID_BITS // 8)


def check_mark_id(mark_id: bytes) -> None:
    """Raise MarkError "mark_id" unless `mark_id` is 8 bytes."""
    if not isinstance(mark_id, bytes) or len(mark_id) != ID_BITS // 8:
        raise MarkError("mark_id", "A mark id is 8 bytes. Nothing was marked. Make one with new_mark_id().")


def _message(mark_id: bytes, key: MarkKey) -> NDArray[np.uint8]:
    check = hmac.new(key.key, _CHECK_PURPOSE + mark_id, hashlib.sha256).digest()
    bits = np.unpackbits(np.frombuffer(mark_id + check[:5], np.uint8))
    return bits[:INFO_BITS]


def encode(mark_id: bytes, key: MarkKey) -> NDArray[np.uint8]:
    """Encode id and keyed check. Returns uint8 [600] of 0 and 1, six coded bits per information bit."""
    check_mark_id(mark_id)
    message = _message(mark_id, key)
    state = 0
    for bit in message[-MEMORY:]:
        state = (int(bit) << (MEMORY - 1)) | (state >> 1)
    coded = np.empty((INFO_BITS, len(GENERATORS)), np.uint8)
    for step, bit in enumerate(message):
        register = (int(bit) << MEMORY) | state
        coded[step] = [(register & generator).bit_count() & 1 for generator in GENERATORS]
        state = register >> 1
    return coded.reshape(-1)


def decode(soft: NDArray[np.floating], key: MarkKey, candidates: int = 1) -> bytes | None:
    """Decode `soft` (float [600], positive favours 0): the mark id, or None when the keyed check does not hold.

    The `candidates` most likely messages are checked; each accepts noise with probability 2**-36.
    """
    from watermark.trellis import decode_list  # numba: only readers pay for its import

    if soft.shape != (CODED_BITS,):
        raise MarkError("mark_id", f"A code word has {CODED_BITS} soft bits, not {soft.shape}. Nothing was read.")
    for bits in decode_list(np.ascontiguousarray(soft, np.float32), candidates):
        mark_id = np.packbits(bits[:ID_BITS]).tobytes()
        if hmac.compare_digest(bits.tobytes(), _message(mark_id, key).tobytes()):
            return mark_id
    return None
