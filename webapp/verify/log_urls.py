"""`/log/`"""

from __future__ import annotations

from django.urls import path, re_path

from webapp.api.urls import unknown
from webapp.verify import log

app_name = "log"

urlpatterns = [
    path("checkpoint", log.Checkpoint.as_view(), name="checkpoint"),
    path("key", log.LogKey.as_view(), name="key"),
    path("proof", log.Proof.as_view(), name="proof"),
    path("consistency", log.Consistency.as_view(), name="consistency"),
    path("entries", log.Entries.as_view(), name="entries"),
    re_path(r"^(?P<rest>.*)$", unknown),
]
