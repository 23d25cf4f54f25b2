"""`/verify`"""

from __future__ import annotations

from django.urls import path

from webapp.verify import receipts, status, views

app_name = "verify"

urlpatterns = [
    path("verify", views.page, name="page"),
    path("receipts/check", receipts.page, name="receipt"),
    path("verify/anchors.pem", views.anchors, name="anchors"),
    path("verify/trusted.pem", views.trusted, name="trusted"),
    path("verify/r/<str:answer_id>", views.result, name="result"),
    path("verify/r/<str:answer_id>/state", views.result_state, name="result_state"),
    path("verify/r/<str:answer_id>/report.json", views.result_json, name="result_json"),
    path("verify/o/<str:output_id>", status.page, name="status"),
    path("verify/o/<str:output_id>/badge.svg", status.badge, name="badge"),
]
