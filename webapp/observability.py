"""Logs as one JSON object per line on standard error: ids only, never a name, an address or a link's token."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRETS = (
    re.compile(r"(/c/)[^/\s\"'?#]+"),  # a consent link is a bearer secret
    re.compile(r"(/me/in/)[^/\s\"'?#]+"),  # opens a person's portal
    re.compile(r"(imp_(?:live|test)_[0-9a-z]{1,12}_)[0-9a-f]+"),
    re.compile(r"([?&](?:token|key|signature)=)[^&\s\"']+", re.IGNORECASE),
    re.compile(r"()[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"),
)


def scrub(text: str) -> str:
    """`text` without link tokens, key secrets and mail addresses."""
    for pattern in SECRETS:
        text = pattern.sub(r"\1…", text)
    return text


def scrub_event(_: Any, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """A structlog processor: every string of the line is scrubbed, tracebacks included."""
    return {name: scrub(value) if isinstance(value, str) else value for name, value in event.items()}


def configure_logging(level: int | str = "INFO") -> None:
    """Send the root logger through structlog's JSON renderer; call it once per process, at start-up."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            scrub_event,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
