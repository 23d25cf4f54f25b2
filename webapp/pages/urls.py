"""The account's pages."""

from __future__ import annotations

from django.urls import path

from webapp.pages import files, jobs, permission, sessions, wizard

app_name = "pages"

urlpatterns = [
    path("", jobs.index, name="jobs"),
    path("login", sessions.Login.as_view(), name="login"),
    path("logout", sessions.Logout.as_view(), name="logout"),
    path("new", wizard.upload, name="new"),
    path("new/check", wizard.check, name="new_check"),
    path("new/faces", wizard.faces, name="new_faces"),
    path("new/permission", permission.ask, name="new_permission"),
    path("assets/<str:asset_id>/preview/<int:face>", files.preview, name="preview"),
    path("jobs/<str:job_id>", jobs.detail, name="job"),
    path("jobs/<str:job_id>/state", jobs.state, name="job_state"),
    path("jobs/<str:job_id>/cancel", jobs.cancel, name="job_cancel"),
    path("jobs/<str:job_id>/links/hide", jobs.hide_links, name="job_hide_links"),
    path("jobs/<str:job_id>/links/<str:consent_id>.png", jobs.link_code, name="job_link_code"),
    path("jobs/<str:job_id>/result", jobs.result, name="result"),
    path("jobs/<str:job_id>/copies-deleted", jobs.copies_deleted, name="copies_deleted"),
    path("jobs/<str:job_id>/before", files.before, name="before"),
    path("jobs/<str:job_id>/output", files.output, name="output"),
]
