"""All addresses of the service."""

from __future__ import annotations

from django.urls import include, path

from consent.receipts import pages as receipt_pages
from webapp.pages import health
from webapp.verify import status

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path(".well-known/jwks.json", receipt_pages.jwks, name="jwks"),
    path("c/", include("consent.urls")),
    path("v1/", include("webapp.api.urls")),
    path("log/", include("webapp.verify.log_urls")),
    path("c2pa/v1/", include("webapp.verify.resolution_urls")),
    path("", include("webapp.verify.urls")),
    path("oembed", status.oembed, name="oembed"),
    path("console/", include("webapp.console.urls")),
    path("", include("webapp.pages.urls")),
]

handler400 = "webapp.pages.failures.bad_request"
handler403 = "webapp.pages.failures.forbidden"
handler404 = "webapp.pages.failures.not_found"
handler500 = "webapp.pages.failures.server_error"
