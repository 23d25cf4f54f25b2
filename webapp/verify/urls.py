"""`/verify`"""

from __future__ import annotations

from django.urls import path

from webapp.verify import status, views

app_name = "verify"

urlpatterns = [
    path("", views.page, name="page"),
    path("/anchors.pem", views.anchors, name="anchors"),
    path("/r/<str:answer_id>", views.result, name="result"),
    path("/r/<str:answer_id>/state", views.result_state, name="result_state"),
    path("/r/<str:answer_id>/report.json", views.result_json, name="result_json"),
    path("/o/<str:output_id>", status.page, name="status"),
    path("/o/<str:output_id>/badge.svg", status.badge, name="badge"),
]
