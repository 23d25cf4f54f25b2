"""The account's pages."""

from __future__ import annotations

from django.urls import path

from webapp.pages import (
    appeals,
    files,
    jobs,
    permission,
    portal_data,
    portal_door,
    portal_face,
    portal_home,
    portal_wishes,
    retention,
    sessions,
    wizard,
)

app_name = "pages"

urlpatterns = [
    path("", jobs.index, name="jobs"),
    path("retention", retention.show, name="retention"),
    path("login", sessions.Login.as_view(), name="login"),
    path("logout", sessions.Logout.as_view(), name="logout"),
    path("new", wizard.upload, name="new"),
    path("new/check", wizard.check, name="new_check"),
    path("new/faces", wizard.faces, name="new_faces"),
    path("new/pairs", wizard.pairs, name="new_pairs"),
    path("new/permission", permission.ask, name="new_permission"),
    path("assets/<str:asset_id>/preview/<int:face>", files.preview, name="preview"),
    path("jobs/<str:job_id>", jobs.detail, name="job"),
    path("jobs/<str:job_id>/state", jobs.state, name="job_state"),
    path("assets/<str:asset_id>/appeal", appeals.asset, name="appeal_asset"),
    path("jobs/<str:job_id>/appeal", appeals.job, name="appeal_job"),
    path("jobs/<str:job_id>/cancel", jobs.cancel, name="job_cancel"),
    path("jobs/<str:job_id>/links/hide", jobs.hide_links, name="job_hide_links"),
    path("jobs/<str:job_id>/links/<str:consent_id>.png", jobs.link_code, name="job_link_code"),
    path("jobs/<str:job_id>/result", jobs.result, name="result"),
    path("jobs/<str:job_id>/copies-deleted", jobs.copies_deleted, name="copies_deleted"),
    path("jobs/<str:job_id>/before", files.before, name="before"),
    path("jobs/<str:job_id>/output", files.output, name="output"),
    # The depicted person's portal.
    path("me", portal_door.front, name="portal"),
    path("me/ask", portal_door.ask, name="portal_ask"),
    path("me/in/<str:token>", portal_door.enter, name="portal_enter"),
    path("me/leave", portal_door.leave, name="portal_leave"),
    path("c/<str:token>/portal", portal_door.enter_by_request, name="portal_by_request"),
    path("me/consents/<str:consent_id>", portal_home.consent, name="portal_consent"),
    path("me/consents/<str:consent_id>/receipt.jwt", portal_home.receipt, name="portal_receipt"),
    path("me/consents/<str:consent_id>/withdraw", portal_home.withdraw, name="portal_withdraw"),
    path("me/consents/<str:consent_id>/hold", portal_home.hold, name="portal_hold_one"),
    path("me/works/<str:job_id>", portal_home.work_file, name="portal_work"),
    path("me/told", portal_wishes.told, name="portal_told"),
    path("me/hold", portal_wishes.hold, name="portal_hold"),
    path("me/limit", portal_wishes.limit, name="portal_limit"),
    path("me/notes", portal_wishes.notes, name="portal_notes"),
    path("me/face", portal_face.entries, name="portal_face"),
    path("me/face/<str:entry_id>/remove", portal_face.remove, name="portal_face_remove"),
    path("me/export", portal_data.export, name="portal_export"),
    path("me/erase", portal_data.erase, name="portal_erase"),
    path(".well-known/gpc.json", portal_wishes.gpc, name="gpc"),
]
