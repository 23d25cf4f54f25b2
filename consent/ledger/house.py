"""The log's own keys: the signer of checkpoints with everything it ever signed with, and the key of the house's salts.

The folder `KEYS_DIR/ledger` is the memory of the signer: its current private key (0600, drawn at the first use), the
public halves of earlier ones, and the last note it signed. Whoever has the database alone has none of that.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connections

from consent import keys
from consent.ledger.errors import LedgerError
from consent.ledger.notes import Signer, Verifier

OWNER = "house:ledger"
LAST = "last-checkpoint"
_KEY = re.compile(r"signer-(\d{4})\.(key|pub)")


def house_key() -> str:
    """The id of the data key under which the house's own entries lie, drawn at the first use."""
    alive = _oldest()
    if alive is None:
        keys.create_key(OWNER)
        alive = _oldest()
    if alive is None:
        raise _unusable("is not in the key store")
    return alive


def _oldest() -> str | None:
    """Plain SQL: every entry that is written asks this."""
    with connections[keys.ALIAS].cursor() as cursor:
        cursor.execute(
            "SELECT id FROM consent_datakey WHERE owner = %s AND destroyed_at IS NULL ORDER BY created_at, id LIMIT 1",
            [OWNER],
        )
        row = cursor.fetchone()
    return None if row is None else str(row[0])


def house_keys() -> list[str]:
    """All such keys, oldest first: two may have been drawn at once."""
    from consent.models import DataKey

    found = DataKey.objects.filter(owner=OWNER, destroyed_at__isnull=True).order_by("created_at", "id")
    return list(found.values_list("pk", flat=True))


def signer() -> Signer:
    """The current signer, drawn at the first use. Raises LedgerError ledger_key_unusable."""
    found = _newest()
    if found is None:
        _place("signer-0001.key", Signer(_name(), secrets.token_bytes(32)).text)
        found = _newest()
    if found is None:  # a public half without its private one is left
        raise _unusable("is not in its folder any more")
    return found


def rotate() -> Signer:
    """Draw a new signer; of the one before only the public half stays, so that what it signed still verifies."""
    old = signer()
    folder, number = _folder(), _numbers()[-1]
    # The order matters: at no moment is there no key, nor a signature that cannot be verified.
    _place(f"signer-{number:04}.pub", old.verifier.text)
    _place(f"signer-{number + 1:04}.key", Signer(old.name, secrets.token_bytes(32)).text)
    (folder / f"signer-{number:04}.key").unlink(missing_ok=True)
    return signer()


def verifiers() -> list[Verifier]:
    """The public halves of every key of this log, newest first."""
    found: dict[bytes, Verifier] = {}
    for path in sorted(_files(), reverse=True):
        verifier = Signer.parse(_read(path)).verifier if path.suffix == ".key" else Verifier.parse(_read(path))
        found.setdefault(verifier.public, verifier)
    return list(found.values())


def remembered() -> str:
    """The last note that was signed here; "" if none was."""
    try:
        return _read(_folder() / LAST)
    except FileNotFoundError:
        return ""


def remember(note: str) -> None:
    """Keep the last note, whole or not at all."""
    _place(LAST, note, replace=True)


def _name() -> str:
    """The log's name and origin, for ever: `host/log`."""
    return f"{urlsplit(settings.PUBLIC_URL).netloc or 'localhost'}/log"


def _folder() -> Path:
    return Path(settings.KEYS_DIR) / "ledger"


def _files() -> Iterator[Path]:
    folder = _folder()
    return (path for path in folder.iterdir() if _KEY.fullmatch(path.name)) if folder.is_dir() else iter(())


def _numbers() -> list[int]:
    return sorted(int(path.stem.partition("-")[2]) for path in _files())


def _newest() -> Signer | None:
    private = sorted(path for path in _files() if path.suffix == ".key")
    return Signer.parse(_read(private[-1])) if private else None


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            if path.suffix == ".key" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise _unusable(f"({path}) may be read by others; allow its owner only (mode 600)")
            return file.read()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(f"({path}) cannot be read") from error


def _place(name: str, text: str, *, replace: bool = False) -> None:
    """Write a complete file beside and link it into place: of two processes one wins, and both read its key."""
    folder = _folder()
    temporary = folder / f".{name}.{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text if text.endswith("\n") else text + "\n")
                file.flush()
                os.fsync(file.fileno())
            if replace:
                temporary.replace(folder / name)
            else:
                try:
                    os.link(temporary, folder / name)
                except FileExistsError:
                    return
            directory = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(f"({folder / name}) cannot be written") from error


def _unusable(why: str) -> LedgerError:
    return LedgerError(
        "ledger_key_unusable",
        f"The key that signs the ledger's checkpoints {why}. Nothing was signed, and nothing was lost: entries wait. "
        "Correct it; the next second tries again.",
    )
