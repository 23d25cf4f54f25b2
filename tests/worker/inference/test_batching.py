"""Batch sizes and waits follow from measured times: the controller on a pretend clock."""

import random

import pytest

from worker.inference.batching import LIMITS, LONGEST_RUN, LatencyCurve, ModelPolicy


def gpu(size: int) -> float:
    """15.7 ms alone, 28 ms for eight: 3.5 ms per item."""
    return 0.0139 + 0.00176 * size


def core(size: int) -> float:
    """A processor core: nothing is gained."""
    return 0.004 * size


def trained(seconds, most: int = 32, runs: int = 60, seed: int = 1) -> ModelPolicy:
    """A policy after runs of whatever size it asked for, each measured with a little noise."""
    generator = random.Random(seed)
    policy = ModelPolicy(most)
    for _ in range(runs):
        size = policy.target("offline")
        policy.ran(size, seconds(size) * generator.uniform(1.0, 1.01))
    return policy


def test_an_unknown_model_begins_with_single_runs_and_climbs_while_that_pays():
    policy = ModelPolicy(32)
    sizes = []
    for _ in range(18):
        sizes.append(policy.target("offline"))
        policy.ran(sizes[-1], gpu(sizes[-1]))
    assert sizes[:3] == [1, 1, 1]
    assert sizes == sorted(sizes)
    assert policy.target("offline") == 32


def test_a_device_that_gains_nothing_from_batches_gets_single_runs_but_is_asked_again_at_times():
    policy = trained(core, runs=200)
    asked = []
    for _ in range(128):
        asked.append(policy.target("offline"))
        policy.ran(asked[-1], core(asked[-1]))
    assert asked.count(1) == 126
    assert asked.count(2) == 2


def test_batches_grow_again_when_a_device_changes_its_mind():
    policy = trained(core, runs=200)
    for _ in range(1500):
        size = policy.target("offline")
        policy.ran(size, gpu(size))
    assert policy.target("offline") >= 8


def test_somebody_who_waits_never_gets_into_a_batch_of_more_than_four():
    assert trained(gpu).target("interactive") == LIMITS["interactive"].most == 4


def test_a_run_that_would_keep_the_device_for_too_long_is_not_tried():
    slow = trained(lambda size: 0.2 * LONGEST_RUN + 0.15 * LONGEST_RUN * size)
    assert slow.curve.predict(slow.target("offline")) <= LONGEST_RUN
    assert trained(lambda size: 2 * LONGEST_RUN).target("offline") == 1


def test_a_graph_with_a_fixed_batch_stays_at_one():
    assert trained(gpu, most=1).target("offline") == 1


def test_memory_that_ran_out_is_remembered():
    policy = trained(gpu)
    policy.ran_out_of_memory(32)
    assert policy.target("offline") == 16
    policy.ran_out_of_memory(3)
    assert policy.target("offline") == 1
    policy.ran_out_of_memory(1)
    assert policy.target("offline") == 1


def test_the_first_run_of_a_size_which_also_pays_for_the_start_does_not_count():
    curve = LatencyCurve()
    for seconds in (2.0, 0.016, 0.016):
        curve.add(1, seconds)
    assert curve.predict(1) == pytest.approx(0.016)


def test_a_size_that_was_never_run_is_read_off_the_line_through_its_neighbours():
    curve = LatencyCurve()
    assert curve.predict(4) is None
    curve.add(8, 0.028)
    assert curve.predict(4) == pytest.approx(0.014)  # one point promises no gain
    curve.add(1, 0.0157)
    assert curve.predict(4) == pytest.approx(0.0157 + 3 * (0.028 - 0.0157) / 7)
    assert curve.predict(16) == pytest.approx(0.028 + 8 * (0.028 - 0.0157) / 7)


def rhythm(policy: ModelPolicy, gap: float, service="offline", count: int = 20) -> float:
    """Let items arrive every `gap` seconds; the time of the last."""
    for index in range(count):
        policy.arrived(service, index * gap)
    return (count - 1) * gap


def test_beside_an_idle_device_a_batch_waits_while_the_next_item_is_nearer_than_what_it_saves():
    policy = trained(gpu)
    now = rhythm(policy, 0.001)
    delay = policy.delay("offline", now, 3, now)
    assert 0.001 <= delay <= 0.002 + 1e-9  # twice the gap without an arrival: the burst is over
    assert policy.delay("offline", now + 0.0021, 3, now) == 0


def test_beside_an_idle_device_nothing_waits_for_items_that_come_too_seldom_to_pay():
    policy = trained(gpu)
    now = rhythm(policy, 0.030)
    assert policy.delay("offline", now, 1, now) == 0


def test_a_device_that_gains_nothing_is_never_kept_waiting():
    policy = trained(core)
    now = rhythm(policy, 0.0001)
    for queued in (1, 2, 7):
        assert policy.delay("offline", now, queued, now) == 0


def test_somebody_who_waits_waits_five_milliseconds_at_most_beside_an_idle_device():
    policy = trained(lambda size: 1.0 if size > 4 else 0.1)
    for gap in (0.0001, 0.001, 0.004, 0.02):
        now = rhythm(policy, gap, "interactive")
        assert policy.delay("interactive", now, 1, now) <= 0.005 + 1e-9
        assert policy.delay("interactive", now, 1, now - 0.005) <= 1e-9


def test_a_busy_device_keeps_a_batch_open_until_it_is_only_just_in_time():
    policy = trained(gpu)
    assert policy.delay("offline", 0.0, 2, 0.0, free_in=0.020, assembly=0.003) == pytest.approx(0.0165)
    assert policy.delay("offline", 0.0, 2, 0.0, free_in=0.003, assembly=0.003) == 0


def test_a_full_batch_is_closed_with_time_to_spare():
    policy = trained(gpu)
    full = policy.target("offline")
    assert policy.delay("offline", 0.0, full, 0.0, free_in=0.020) < policy.delay("offline", 0.0, 2, 0.0, free_in=0.020)
    assert policy.delay("offline", 0.0, full, 0.0) == 0


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_measured_sizes_and_waits_stay_within_their_bounds(seed):
    generator = random.Random(seed)
    policy = ModelPolicy(32)
    now = 0.0
    for _ in range(300):
        now += generator.expovariate(100)
        service = generator.choice(["interactive", "offline"])
        policy.arrived(service, now)
        size = policy.target(service)
        assert 1 <= size <= LIMITS[service].most
        delay = policy.delay(service, now, generator.randint(1, 40), now - generator.random() * 0.01)
        assert 0 <= delay <= LIMITS[service].wait + 1e-9
        policy.ran(generator.randint(1, size), generator.choice([0.0, 0.001, 0.1, 3.0]))
        if generator.random() < 0.02:
            policy.ran_out_of_memory(size)
