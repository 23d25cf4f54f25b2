"""Addresses below /console/."""

from __future__ import annotations

from django.urls import path

from webapp.console import audit, consents, notes, views

app_name = "console"

urlpatterns = [
    path("notes", notes.notes, name="notes"),
    path("notes/<str:note_id>", notes.answer, name="answer"),
    path("reviews", views.reviews, name="reviews"),
    path("reviews/<str:review_id>", views.decide, name="decide"),
    path("reviews/<str:review_id>/look", views.look, name="review_look"),
    path("reviews/<str:review_id>/<str:asset_id>/<int:face>.jpg", views.picture, name="picture"),
    path("consents", consents.index, name="consents"),
    path("consents/<str:consent_id>", consents.detail, name="consent"),
    path("consents/<str:consent_id>/look", consents.look, name="consent_look"),
    path("consents/<str:consent_id>/evidence.zip", consents.evidence, name="consent_evidence"),
    path("consents/<str:consent_id>/revoke", consents.revoke, name="consent_revoke"),
    path("consents/<str:consent_id>/picture/<str:which>.jpg", consents.picture, name="consent_picture"),
    path("audit", audit.index, name="audit"),
]
