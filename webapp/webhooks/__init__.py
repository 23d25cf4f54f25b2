"""Webhooks: partners are told what happened to consents, jobs and outputs (Standard Webhooks)."""
