"""Receipts as issued, and the keys they were signed with."""

from __future__ import annotations

from django.db import models

from consent.key_errors import KeyDestroyedError
from consent.models import Consent, Sealed
from webapp.ids import new_id


def receipt_id() -> str:
    return new_id("rcp")


class ReceiptKey(models.Model):
    """One Ed25519 key for receipts. Its seed is a data key of the key store; a retired one has only its public half.

    The public half stays for ever: a receipt must be checkable for as long as somebody keeps it.
    """

    kid = models.CharField(primary_key=True, max_length=43)  # RFC 7638 thumbprint of the public key
    public = models.BinaryField()  # 32 bytes
    key_id = models.CharField(max_length=40)
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.kid


class Receipt(Sealed):
    """The receipt of one permission, as a compact JWS, in two copies sealed under the person's key.

    The person's copy holds a link that withdraws; the house's copy holds only the link's hash, so that whoever is
    handed it as evidence cannot withdraw in the person's name.
    """

    id = models.CharField(primary_key=True, max_length=32, default=receipt_id, editable=False)
    consent = models.OneToOneField(Consent, on_delete=models.PROTECT, related_name="receipt")
    kid = models.CharField(max_length=43)
    jws_sealed = models.BinaryField(null=True, blank=True)
    house_jws_sealed = models.BinaryField(null=True, blank=True)
    sha256 = models.CharField(max_length=64)  # of the person's copy: what a manifest may name
    token_sha256 = models.CharField(max_length=64, unique=True)  # of the receipt's own link
    ledger_index = models.PositiveBigIntegerField()
    issued_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.id

    @property
    def jws(self) -> str:
        """The person's copy. Raises keys.KeyDestroyedError after erasure."""
        return self._copy("jws")

    @property
    def house_jws(self) -> str:
        """The copy without the person's link. Raises keys.KeyDestroyedError after erasure."""
        return self._copy("house_jws")

    def _copy(self, column: str) -> str:
        text = self.unseal(column)
        if not text:
            raise KeyDestroyedError("This receipt was erased with its person. It cannot be brought back.")
        return text
