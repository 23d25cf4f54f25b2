"""`/verify`"""

from __future__ import annotations

from django.urls import path

from webapp.verify import views

app_name = "verify"

urlpatterns = [path("", views.page, name="page")]
