"""`/c2pa/v1/`"""

from __future__ import annotations

from django.urls import path, re_path

from webapp.api.urls import unknown
from webapp.verify import resolution

app_name = "resolution"

urlpatterns = [
    path("matches/byBinding", resolution.ByBinding.as_view(), name="by_binding"),
    path("matches/byContent", resolution.ByContent.as_view(), name="by_content"),
    path("manifests/<path:manifest_id>", resolution.Manifest.as_view(), name="manifest"),
    path("services/supportedAlgorithms", resolution.SupportedAlgorithms.as_view(), name="algorithms"),
    re_path(r"^(?P<rest>.*)$", unknown),
]
