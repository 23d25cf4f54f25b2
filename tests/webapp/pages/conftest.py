"""The cast, for the tests of this room."""

from __future__ import annotations

import pytest
from django.core.cache import cache

from tests.webapp.pages import cast


@pytest.fixture
def cleo(db: None) -> cast.Account:
    """Who uploads."""
    return cast.account("Cleo")


@pytest.fixture
def dan(db: None) -> cast.Account:
    """Somebody of another organisation."""
    return cast.account("Dan")


@pytest.fixture(autouse=True)
def _no_counters() -> None:
    """Rate limits of one test are not those of the next."""
    cache.clear()
