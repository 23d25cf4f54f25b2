"""What passed the gate was let through by rules; nothing in the house says that a picture is authentic or real."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from webapp.screening import reasons

ROOT = Path(__file__).parents[3]
CLAIM = re.compile(r"\b(authentic|genuine|real|unaltered|unmanipulated)\b", re.IGNORECASE)
DENIAL = re.compile(r"\b(not|never|nothing|no|nobody)\b", re.IGNORECASE)
TEMPLATES = sorted((ROOT / "webapp" / "templates").rglob("*.html"))
MODULES = sorted(
    path
    for folder in ("webapp/console", "webapp/pages", "webapp/screening", "webapp/verify", "webapp/api", "worker/gate")
    for path in (ROOT / folder).glob("*.py")
)


def claims(text: str) -> list[str]:
    """Sentences that say so without denying it."""
    plain = re.sub(r"\{[{%#].*?[}%#]\}|<[^>]*>", " ", text, flags=re.DOTALL)
    sentences = re.split(r"(?<=[.!?])\s", " ".join(plain.split()))
    return [each for each in sentences if CLAIM.search(each) and not DENIAL.search(each)]


def words_of(path: Path) -> list[str]:
    """The sentences in a module: no keywords, and no docstrings, which speak to programmers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value and node not in alone
    ]


def test_the_search_finds_a_claim_and_spares_a_denial() -> None:
    assert claims("<p>This picture is <b>real</b>.</p> It is fine.") == ["This picture is real ."]
    assert claims("That does <strong>not</strong> mean that it is real. {% if authentic %}") == []
    assert words_of(Path(__file__)), "this module has words"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_calls_anything_real(path: Path) -> None:
    assert claims(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: "/".join(path.parts[-2:]))
def test_no_words_call_anything_real(path: Path) -> None:
    assert [each for text in words_of(path) for each in claims(text)] == []


def test_all_that_is_said_is_that_it_passed_and_by_which_policy() -> None:
    assert reasons.passed("2026-11.3") == "passed input screening, policy v2026-11.3"
