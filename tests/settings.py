"""The product's settings, with a home of its own in a temporary folder, so that a test run touches nothing else.

Nothing is switched off: the same storage encryption, keys, consent, mark and manifest as in production, made with
development keys in that folder.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def _test_home() -> Path:
    """One folder per test process; child processes inherit it, xdist workers get a subfolder each."""
    if given := os.environ.get("IMPRIMATUR_TEST_HOME"):
        home = Path(given)
    else:
        home = Path(tempfile.mkdtemp(prefix="imprimatur-tests-"))
        os.environ["IMPRIMATUR_TEST_HOME"] = str(home)
        atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home / os.environ.get("PYTEST_XDIST_WORKER", "main")


if "IMPRIMATUR_IN_HOUSE" not in os.environ:  # a child of a test's own house keeps that house
    os.environ["IMPRIMATUR_HOME"] = str(_test_home())
os.environ.setdefault("IMPRIMATUR_MODELS", str(REPOSITORY / "var" / "models"))
os.environ.setdefault("IMPRIMATUR_VENDOR", str(REPOSITORY / "var" / "vendor"))
os.environ.setdefault("IMPRIMATUR_PROFILE", "evaluation")

from webapp.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # speed; the product keeps Django's default
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
