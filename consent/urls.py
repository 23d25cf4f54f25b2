"""The person's own pages, under /c/."""

from __future__ import annotations

from django.urls import path, re_path

from consent import views
from consent.challenge import camera
from consent.receipts import pages as receipt_pages

app_name = "consent"

urlpatterns = [
    path("<str:token>", views.show, name="page"),
    path("<str:token>/give", views.give, name="give"),
    path("<str:token>/refuse", views.refuse, name="refuse"),
    path("<str:token>/withdraw", views.withdraw, name="withdraw"),
    path("<str:token>/challenge", camera.challenge, name="challenge"),
    path("<str:token>/clip", camera.clip, name="clip"),
    path("<str:token>/state", camera.state, name="state"),
    path("<str:token>/code", camera.code, name="code"),
    path("<str:token>/photo/<int:index>", views.photo, name="photo"),
    path("<str:token>/receipt", receipt_pages.page, name="receipt"),
    path("<str:token>/receipt-code.svg", receipt_pages.code, name="receipt_code"),
    re_path(r"^(?P<token>[^/]+)/receipt\.(?P<kind>jwt|json|pdf)$", receipt_pages.download, name="receipt_file"),
    path("<str:token>/target", views.target, name="target"),
    path("<str:token>/target/<int:index>", views.target, name="target"),
]
