"""Addresses below /console/."""

from __future__ import annotations

from django.urls import path, re_path

from webapp.console import audit, consents, notes, selfies, views

app_name = "console"

urlpatterns = [
    path("notes", notes.notes, name="notes"),
    path("notes/<str:note_id>", notes.answer, name="answer"),
    path("reviews", views.reviews, name="reviews"),
    path("reviews/<str:review_id>", views.decide, name="decide"),
    path("reviews/<str:review_id>/look", views.look, name="review_look"),
    path("reviews/<str:review_id>/<str:asset_id>/<int:face>.jpg", views.picture, name="picture"),
    path(
        "reviews/<str:review_id>/<str:asset_id>/<int:face>.blurred.jpg", views.blurred_picture, name="blurred_picture"
    ),
    path("consents", consents.index, name="consents"),
    path("consents/<str:consent_id>", consents.detail, name="consent"),
    path("consents/<str:consent_id>/look", consents.look, name="consent_look"),
    path("consents/<str:consent_id>/evidence.zip", consents.evidence, name="consent_evidence"),
    path("consents/<str:consent_id>/revoke", consents.revoke, name="consent_revoke"),
    re_path(
        r"^consents/(?P<consent_id>[^/]+)/(?P<kind>photo|target)/(?P<index>[0-9]{1,3})\.jpg$",
        consents.picture,
        name="consent_picture",
    ),
    path("audit", audit.index, name="audit"),
    path("selfies", selfies.waiting, name="selfies"),
    path("selfies/<str:challenge_id>/look", selfies.look, name="selfie_look"),
    path("selfies/<str:challenge_id>", selfies.decide, name="decide_selfie"),
    path("selfies/<str:challenge_id>/still/<int:index>.jpg", selfies.still, name="selfie_still"),
    path("selfies/<str:challenge_id>/source/<int:index>.jpg", selfies.source, name="selfie_source"),
]
