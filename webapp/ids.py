"""Public identifiers: a prefix that tells the kind, and 128 random bits, so that ids cannot be counted or guessed."""

from __future__ import annotations

import secrets

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case: no i, l, o, u
LENGTH = 26


def new_id(prefix: str) -> str:
    """For example `job_5p1z…`: prefix, underscore, 26 base-32 characters (130 random bits)."""
    return f"{prefix}_{''.join(secrets.choice(ALPHABET) for _ in range(LENGTH))}"


def asset_id() -> str:
    return new_id("ast")


def job_id() -> str:
    return new_id("job")


def output_id() -> str:
    return new_id("out")


def screening_id() -> str:
    return new_id("scr")


def review_id() -> str:
    return new_id("rev")


def organisation_id() -> str:
    return new_id("org")


def verification_id() -> str:
    return new_id("ver")
