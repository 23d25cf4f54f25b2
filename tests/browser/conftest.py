"""A real browser on a real server: Debian's Chromium by Playwright. Without it these tests are skipped by name."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
from django.core.cache import cache
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.webapp import cast

Axe = Callable[[Page], list[tuple[str, str]]]

AXE = "axe-core@4.14.1"  # MPL-2.0, for tests only
# What WCAG 2.2 level AA asks, and axe's own good practice.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs Chromium."""
    for item in items:
        if "tests/browser" in str(item.path):
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="Chromium is not installed (Debian: apt-get install chromium)"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    # Playwright's own event loop runs in this thread, in which the tests use the database as well.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()
    os.environ.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> Axe:
    """`axe(page)` is what axe-core finds wrong with a page: (rule, where), each rule once. Needs `bypass_csp`."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, so axe-core cannot be fetched")
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder), AXE]
    fetched = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if fetched.returncode:
        pytest.skip(f"axe-core cannot be fetched: {fetched.stderr[-200:]}")
    script = (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")

    def look(page: Page) -> list[tuple[str, str]]:
        page.evaluate(script)
        found = page.evaluate("rules => axe.run(document, { runOnly: rules })", RULES)
        return [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]]

    return look


@pytest.fixture
def cleo(transactional_db: None) -> cast.Account:
    """Who uploads."""
    cache.clear()
    return cast.account("Cleo")


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console had to complain about: a blocked script, a missing file, an error in a module."""
    return []


@pytest.fixture
def context(browser: Browser, complaints: list[str]) -> Iterator[BrowserContext]:
    """A window of a phone's width, so that nothing may need more."""
    made = browser.new_context(viewport={"width": 360, "height": 740})
    made.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    made.on("weberror", lambda error: complaints.append(str(error.error)))
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, live_server: object, cleo: cast.Account) -> Page:
    """A page of Cleo's, who has logged in by the form."""
    opened = context.new_page()
    opened.goto(f"{live_server}/login")  # type: ignore[str-format]
    opened.get_by_label("E-mail address").fill("cleo@example.org")
    opened.get_by_label("Password").fill(cast.PASSWORD)
    opened.get_by_role("main").get_by_role("button", name="Log in").click()
    opened.wait_for_url(f"{live_server}/")
    return opened
