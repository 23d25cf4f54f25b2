"""People who log in, the organisations (tenants) they act for, and partner keys."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models

from webapp.ids import organisation_id


class Organisation(models.Model):
    """A tenant. Every asset, job, output and consent request belongs to exactly one."""

    id = models.CharField(primary_key=True, max_length=32, default=organisation_id, editable=False)
    name = models.CharField(max_length=120)
    created_at = models.DateTimeField(auto_now_add=True)
    suspended_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name


class User(AbstractUser):
    """An account. `is_staff` marks the house's own moderators, who belong to no organisation's work."""

    email = models.EmailField(unique=True)
    organisation = models.ForeignKey(
        Organisation, on_delete=models.PROTECT, null=True, blank=True, related_name="users"
    )


class ApiKey(models.Model):
    """A partner's key `imp_live_<prefix>_<secret>`; only the SHA-256 of the secret is kept (it has 256 random bits)."""

    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12, unique=True)
    secret_sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
