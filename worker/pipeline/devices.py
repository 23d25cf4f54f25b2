"""What a job's media child is given of a video device, and what that device would write. Runs in the task process."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Final

from worker.media.devices import ADDRESS_SPACE, device_files
from worker.media.errors import ChildError, MediaError
from worker.media.sandbox import Limits, call
from worker.spec import JobSpec

logger = logging.getLogger(__name__)

_SECONDS: Final = 60


def granted(spec: JobSpec) -> tuple[list[Path], int]:
    """The device files that a job's decoder and encoder may use, and the address space that its child then needs."""
    devices = device_files() if spec.kind == "video" and spec.hardware != "off" else []
    return devices, ADDRESS_SPACE if devices else spec.memory_limit


def device_header(spec: JobSpec) -> bytes | None:
    """The parameter sets that this machine's video device writes for a job; None where it does not write the job.

    Found out in a media child, since a driver may fail in any way.
    """
    devices = device_files()
    if not devices:
        return None
    try:
        reply = call(
            "worker.pipeline.child:header_entry",
            {"spec": replace(spec, hardware="encode").to_json()},
            limits=Limits(memory=ADDRESS_SPACE, cpu_seconds=2 * _SECONDS, threads=1),
            timeout=_SECONDS,
            reads=[spec.target_path.resolve()],
            writes=devices,
        )
        return None if reply["header"] is None else bytes.fromhex(reply["header"])
    except (MediaError, ChildError) as error:
        logger.warning("The video device could not be tried: %s", error)
        return None
