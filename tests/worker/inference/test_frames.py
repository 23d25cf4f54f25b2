"""The memory of batches: taken again instead of made anew, and no more of it than batches in flight."""

from worker.inference.frames import FramePool
from worker.inference.registry import BUILTIN

CONTRACT = BUILTIN.card("blazeface_short").contract


def _pool(kept: int) -> FramePool:
    return FramePool(CONTRACT, kept=kept, outputs=True, pinned=False)


def test_a_frame_that_was_given_back_is_taken_again_and_the_smallest_that_has_room():
    pool = _pool(3)
    small, large = pool.take(1), pool.take(5)
    assert (small.capacity, large.capacity) == (1, 8)
    pool.give_back(large)
    pool.give_back(small)
    assert pool.take(1) is small
    assert pool.take(1) is large


def test_no_more_frames_are_kept_than_batches_are_in_flight_however_many_were_out():
    pool = _pool(2)
    out = [pool.take(size) for size in (1, 2, 4, 8)]
    for frame in out:
        pool.give_back(frame)
    again = [pool.take(1) for _ in range(3)]
    assert [frame.capacity for frame in again] == [4, 8, 1]
    assert again[0] is out[2]
    assert again[1] is out[3]
    assert again[2] not in out


def test_what_lies_ready_is_freed_after_a_while_without_a_batch():
    pool = _pool(2)
    assert not pool.let_go(0)
    frame, other = pool.take(2), pool.take(2)
    pool.give_back(frame)
    assert not pool.let_go(3600)
    assert pool.let_go(0)
    assert not pool.let_go(0)
    pool.give_back(other)  # a batch that was out meanwhile
    assert pool.take(1) is other
