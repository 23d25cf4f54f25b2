"""`manage.py serve`: web server, worker and scheduler of one machine in one terminal."""

from __future__ import annotations

import os
import socket
import time
import urllib.request
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from webapp.commands.checks import LOCAL_HOSTS
from webapp.commands.evaluation import ready_account
from webapp.commands.supervise import (
    START_SECONDS,
    House,
    PartEndedError,
    offline_parts,
    running,
    web_part,
    worker_part,
)


class Command(BaseCommand):
    help = (
        "Run the whole service on this machine: web server, worker and scheduler. Needs no Redis, PostgreSQL or "
        "Docker. Ctrl-C stops all of it; running jobs go on at the next start."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
        parser.add_argument(
            "--processes",
            type=int,
            default=2,
            help="worker processes for screening, photos and short clips (default: %(default)s); longer videos have "
            "processes of their own, one per CUDA device or per four cores",
        )

    def handle(self, *args: Any, host: str, port: int, processes: int, **options: Any) -> None:
        if not settings.PROFILE:
            raise CommandError(
                "IMPRIMATUR_PROFILE is not set. Use `make serve`, or choose evaluation, standard or strict."
            )
        if settings.PROFILE == "evaluation" and host not in LOCAL_HOSTS:
            raise CommandError(
                "The profile `evaluation` lets unscreened inputs proceed, so it listens on this machine only. "
                "Choose IMPRIMATUR_PROFILE=standard or strict to listen elsewhere."
            )
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise CommandError(
                    f"Port {port} on {host} is taken ({error.strerror}). Choose another with --port."
                ) from None
        url = f"http://{host}:{port}"
        # Links in letters and QR codes must lead here, unless the operator has named an outside address.
        if host in LOCAL_HOSTS:
            os.environ.setdefault("PUBLIC_URL", url)
        try:
            worker = worker_part(processes=processes, queues=("ctl", "cpu.media", "interactive"))
            with running([web_part(host, port), worker, *offline_parts()]) as house:
                self._wait(house, url)
                self._greet(url)
                while True:
                    house.check()
                    time.sleep(0.5)
        except KeyboardInterrupt:
            self.stdout.write("\nStopped. Nothing was lost; `make serve` goes on where this ended.")
        except PartEndedError as error:
            raise CommandError(str(error)) from None

    def _wait(self, house: House, url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            house.check()
            try:
                with urllib.request.urlopen(f"{url}/healthz", timeout=2):  # noqa: S310 our own address
                    return
            except OSError:
                time.sleep(0.2)
        raise CommandError(f"The web server did not answer on {url} within {START_SECONDS:.0f} seconds.")

    def _greet(self, url: str) -> None:
        self.stdout.write(f"\nImprimatur is running on {url}   (profile: {settings.PROFILE})")
        if settings.PROFILE == "evaluation":
            _, _, account = ready_account()
            self.stdout.write(
                f"  log in       {account.email}  /  {account.password}\n"
                f"  moderator    {account.moderator}  /  {account.moderator_password}\n"
                f"  partner key  {account.api_key}\n"
                f"  verify page  {url}/verify        API schema  {url}/v1/schema\n"
                "  This is an evaluation: L1 consent is enough, outputs are visibly labelled, livemode is false.\n"
                f"  Mail to the depicted people is written to {settings.MAIL_DIR}."
            )
        self.stdout.write("Ctrl-C stops it.")
        self.stdout.flush()
