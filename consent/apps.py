"""The consent app: what depicted people were asked, what they answered, and the keys their data lies under."""

from __future__ import annotations

from django.apps import AppConfig


class ConsentConfig(AppConfig):
    name = "consent"
    label = "consent"
    verbose_name = "Consent"

    def ready(self) -> None:
        from consent import mail, schedule, transitions
        from consent.challenge import forgetting as challenge_forgetting
        from consent.challenge import upkeep as challenge_upkeep
        from consent.portal import access as portal_access
        from consent.portal import forgetting as portal_forgetting
        from consent.receipts import forgetting as receipt_forgetting
        from consent.receipts import mail as receipt_mail
        from webapp.outbox.services import register

        register(mail.TOPIC, mail.deliver)
        register(portal_access.TOPIC, portal_access.deliver_ask)
        register(receipt_mail.TOPIC, receipt_mail.deliver)
        schedule.register()
        transitions.register_effect(challenge_upkeep.on_consent_changed)
        portal_forgetting.register()
        challenge_forgetting.register()
        receipt_forgetting.register()
