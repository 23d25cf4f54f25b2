"""Addresses below /console/."""

from __future__ import annotations

from django.urls import path

from webapp.console import views

app_name = "console"

urlpatterns = [
    path("reviews", views.reviews, name="reviews"),
    path("reviews/<str:review_id>", views.decide, name="decide"),
    path("reviews/<str:review_id>/<str:asset_id>/<int:face>.jpg", views.picture, name="picture"),
]
