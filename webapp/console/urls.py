"""Addresses below /console/."""

from __future__ import annotations

from django.urls import path

from webapp.console import selfies, views

app_name = "console"

urlpatterns = [
    path("reviews", views.reviews, name="reviews"),
    path("reviews/<str:review_id>", views.decide, name="decide"),
    path("reviews/<str:review_id>/<str:asset_id>/<int:face>.jpg", views.picture, name="picture"),
    path("selfies", selfies.waiting, name="selfies"),
    path("selfies/<str:challenge_id>", selfies.decide, name="decide_selfie"),
    path("selfies/<str:challenge_id>/still/<int:index>.jpg", selfies.still, name="selfie_still"),
    path("selfies/<str:challenge_id>/source/<int:index>.jpg", selfies.source, name="selfie_source"),
]
