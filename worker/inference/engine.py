"""The engine process: holds the models of one machine and runs them for every job.

    python -m worker.inference.engine --socket PATH --models DIR [--idle-exit SECONDS] [--preload NAME,...]

Here it is started: its options, its models, its place on the file system. Its connections are in `server`.
"""

import argparse
import contextlib
import fcntl
import json
import logging
import os
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from worker.inference import gate_models, registry
from worker.inference import packs as detector_packs
from worker.inference.endpoint import bind, lock_path
from worker.inference.graph_cache import GraphCache
from worker.inference.importing import cache_of, import_folder
from worker.inference.precision import POLICY_PATH, read_policies
from worker.inference.pretend import PretendDevice, read_table
from worker.inference.server import UNLOAD_SECONDS, Engine, Server
from worker.inference.sessions import LocalRunner, ProviderPolicy
from worker.inference.store import ModelStore
from worker.inference.types import ModelError

log = logging.getLogger("imprimatur.engine")


def main(arguments: list[str] | None = None) -> int:
    """Run the engine until it is stopped; the exit code."""
    options = _parse(arguments)
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s UTC %(process)d %(levelname)s %(message)s"
    )
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold faces
    with lock_path(options.socket).open("a") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _report(options.ready_fd, {"ok": False, "code": "engine_unavailable", "message": "another engine runs"})
            return 1
        return _serve(options)


def _serve(options: argparse.Namespace) -> int:
    try:
        executor, device = _executor(options)
        listener = bind(options.socket)
    except (ModelError, ValueError, OSError) as error:
        code = error.code if isinstance(error, ModelError) else "engine_unavailable"
        log.error("cannot start: %s", error)
        _report(options.ready_fd, {"ok": False, "code": code, "message": str(error)})
        return 1
    server = Server(listener, Engine(executor), options.idle_exit, options.unload_after)
    log.info("engine ready, model set %s, %s", executor.models.id(), device)
    _report(options.ready_fd, {"ok": True})
    server.serve()
    options.socket.unlink(missing_ok=True)
    log.info("engine ended")
    return 0


def _executor(options: argparse.Namespace) -> tuple[PretendDevice | LocalRunner, str]:
    """What runs the models, with everything loaded that must be before the engine is ready; and words for the log."""
    cores = len(os.sched_getaffinity(0))
    models = registry.BUILTIN
    if options.operator_models is not None:
        try:
            models = ModelStore(options.operator_models, cache_of(options.models)).models(threads=cores)
        except ModelError as error:  # the built-in set still works
            log.error("the operator's models are left out: %s", error)
    if options.extra_models is not None:
        models = import_folder(options.extra_models, cache_of(options.models), threads=cores)
    if options.pretend is not None:
        log.warning("PRETENDING: no model is run, every answer is made up; for measuring only")
        return PretendDevice(read_table(options.pretend, models), models=models), "pretend device"
    policy = ProviderPolicy.parse(options.providers or "auto")
    packs = detector_packs.present(options.gate_packs) if options.gate_packs is not None else registry.BUILTIN
    models = models.with_gate(gate_models.present(options.models), packs)
    if options.memory_limit is not None:
        policy = replace(policy, memory_limit=options.memory_limit << 20)
    cache = GraphCache(options.cache) if options.cache is not None else None
    if cache is not None:
        cache.sweep()
    runner = LocalRunner(
        options.models,
        threads=options.threads,
        providers=policy,
        cache=cache,
        slots=max(1, cores // options.threads),
        models=models,
        precisions=read_policies(POLICY_PATH, *options.precision),
    )
    own = [name for name in models.cards() if name not in models.gate]  # a job can do without those of the gate
    names = own if options.preload == "all" else [n for n in options.preload.split(",") if n]
    for name in names:
        runner.load(name, pin=True)
    if policy.mode == "require":
        for name in own:
            runner.load(name)
    return runner, f"{cores} cores, providers {options.providers or 'auto'}"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker.inference.engine", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="the Unix socket to listen on")
    parser.add_argument("--models", type=Path, required=True, help="the folder of the built-in model set")
    own = parser.add_mutually_exclusive_group()
    own.add_argument("--operator-models", type=Path, metavar="DIR", help="the folder of installed models")
    own.add_argument("--extra-models", type=Path, metavar="DIR", help="a folder of files that nobody pinned")
    parser.add_argument("--gate-packs", type=Path, metavar="DIR", help="the folder of installed detector packs")
    parser.add_argument("--idle-exit", type=float, metavar="SECONDS", help="end after so long without a client")
    parser.add_argument("--threads", type=int, default=1, help="threads of one run (default 1)")
    device = parser.add_mutually_exclusive_group()
    device.add_argument(
        "--providers", help="auto (default), require:DEVICE or prefer:DEVICE,... of cpu, cuda, tensorrt"
    )
    device.add_argument(
        "--pretend", type=Path, metavar="TABLE", help="run NO model: wait as a device would (for measuring only)"
    )
    parser.add_argument("--memory-limit", type=int, metavar="MIB", help="of a device's memory, for each model")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep optimised graphs and compiled engines here")
    parser.add_argument("--preload", default="", metavar="NAME,...", help="load before ready, never unload; or: all")
    parser.add_argument("--unload-after", type=float, default=UNLOAD_SECONDS, metavar="SECONDS", help="without use")
    parser.add_argument(
        "--precision", type=Path, action="append", default=[], help="a TOML file over the shipped precision.toml"
    )
    parser.add_argument("--ready-fd", type=int, help="a descriptor that gets one JSON line when ready or failed")
    options = parser.parse_args(arguments)
    if options.threads < 1 or (options.idle_exit is not None and options.idle_exit < 0):
        parser.error("--threads must be at least 1 and --idle-exit not negative")
    if options.unload_after <= 0 or (options.memory_limit is not None and options.memory_limit < 1):
        parser.error("--unload-after and --memory-limit must be positive")
    return options


def _report(descriptor: int | None, message: dict[str, Any]) -> None:
    if descriptor is not None:
        with contextlib.suppress(OSError):  # whoever started us may be gone
            os.write(descriptor, json.dumps(message).encode("utf-8") + b"\n")
            os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
