"""Addresses below /console/."""

from __future__ import annotations

from django.urls import path

from webapp.console import notes, views

app_name = "console"

urlpatterns = [
    path("notes", notes.notes, name="notes"),
    path("notes/<str:note_id>", notes.answer, name="answer"),
    path("reviews", views.reviews, name="reviews"),
    path("reviews/<str:review_id>", views.decide, name="decide"),
    path("reviews/<str:review_id>/<str:asset_id>/<int:face>.jpg", views.picture, name="picture"),
]
