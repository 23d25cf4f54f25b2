"""The mark's 64 bits, their keyed check and the code around both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark.keys import MarkKey, derive_mark_key
from watermark.mark_errors import MarkError
from watermark.payload import CODED_BITS, decode, encode, new_mark_id

IDS = st.binary(min_size=8, max_size=8)
KEY = MarkKey("tests", bytes(range(32)))
GOLDEN_WORD = (
    "96e7aabcb91c562985d3f03f3d786b68d16a35ff141856aa9a113aa084281420c83a5556e72"
    "c19817403efab66f1f3c343b9506d78f7be2824e3c113a42e991bbf10fa89d33eed6ecec6df"
)
OTHER = MarkKey("tests", bytes(range(1, 33)))


def soft(coded, generator, deviation):
    return (1.0 - 2.0 * coded) + generator.normal(0, deviation, CODED_BITS)


@settings(max_examples=25, deadline=None)
@given(mark_id=IDS)
def test_every_id_survives_a_clean_channel(mark_id):
    coded = encode(mark_id, KEY)
    assert coded.shape == (CODED_BITS,)
    assert set(np.unique(coded)) <= {0, 1}
    assert decode(1.0 - 2.0 * coded, KEY) == mark_id


@settings(max_examples=25, deadline=None)
@given(mark_id=IDS, seed=st.integers(0, 2**32 - 1))
def test_every_id_survives_when_a_fifth_of_the_bits_is_wrong(mark_id, seed):
    generator = np.random.Generator(np.random.PCG64(seed))
    received = soft(encode(mark_id, KEY), generator, 1.2)
    wrong = float(((received < 0) != encode(mark_id, KEY).astype(bool)).mean())
    assert 0.12 < wrong < 0.30
    assert decode(received, KEY) == mark_id


@settings(max_examples=20, deadline=None)
@given(mark_id=IDS, seed=st.integers(0, 2**32 - 1))
def test_noise_gives_the_id_or_nothing_but_never_another_id(mark_id, seed):
    generator = np.random.Generator(np.random.PCG64(seed))
    assert decode(soft(encode(mark_id, KEY), generator, 2.6), KEY) in (None, mark_id)
    assert decode(generator.normal(0, 1, CODED_BITS), KEY) is None


@settings(max_examples=15, deadline=None)
@given(mark_id=IDS)
def test_another_key_does_not_accept_the_code_word(mark_id):
    assert decode(1.0 - 2.0 * encode(mark_id, KEY), OTHER) is None


def test_a_burst_of_erasures_is_repaired():
    received = 1.0 - 2.0 * encode(b"an id ok", KEY)
    received[100:160] = 0.0
    assert decode(received, KEY) == b"an id ok"


def test_the_code_word_is_fixed_for_all_time():
    word = np.packbits(encode(b"\x00\x01\x02\x03\x04\x05\x06\x07", KEY)).tobytes()
    assert word.hex() == GOLDEN_WORD


def test_fresh_ids_are_eight_bytes_and_differ():
    ids = {new_mark_id() for _ in range(100)}
    assert len(ids) == 100
    assert {len(one) for one in ids} == {8}


@pytest.mark.parametrize("bad", [b"", b"1234567", b"123456789", "12345678"])
def test_an_id_of_another_form_is_refused(bad):
    with pytest.raises(MarkError) as caught:
        encode(bad, KEY)
    assert caught.value.code == "mark_id"


def test_a_key_of_another_length_is_refused():
    with pytest.raises(MarkError) as caught:
        MarkKey("short", b"abc")
    assert caught.value.code == "key"


def test_keys_of_other_years_deployments_and_masters_are_unrelated():
    master = b"0123456789abcdef"
    keys = [
        derive_mark_key(master, deployment="a", year=2026),
        derive_mark_key(master, deployment="a", year=2027),
        derive_mark_key(master, deployment="b", year=2026),
        derive_mark_key(master + b"!", deployment="a", year=2026),
    ]
    assert len({key.key for key in keys}) == 4
    assert derive_mark_key(master, deployment="a", year=2026) == keys[0]
    assert keys[0].key.hex() not in repr(keys[0])


def test_a_short_master_secret_is_refused():
    with pytest.raises(MarkError) as caught:
        derive_mark_key(b"short", deployment="a", year=2026)
    assert caught.value.code == "key"
