"""Shapes of answers, as the OpenAPI description shows them."""

from __future__ import annotations

from typing import get_args

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from consent.levels import LEVELS
from consent.services import CHECK_STATES
from watermark.verdict import Code, Reason
from webapp.api.forms import ATTESTATION_KINDS, MEDIA_KINDS, ROLES, FaceRef
from webapp.jobs.models import Asset, Job, Output
from webapp.jobs.options import PURPOSES
from webapp.verify.models import Verification


def kind_of(name: str) -> serializers.Field:
    """The member `object`, which has one value per resource."""

    @extend_schema_field({"type": "string", "const": name})
    class ObjectField(serializers.CharField):
        pass

    return ObjectField()


class FailureOut(serializers.Serializer):
    code = serializers.CharField()
    message = serializers.CharField()


class ProgressOut(serializers.Serializer):
    fraction = serializers.FloatField(allow_null=True)
    stage = serializers.CharField(allow_null=True)
    frames_done = serializers.IntegerField(allow_null=True)
    frames_total = serializers.IntegerField(allow_null=True)
    eta_seconds = serializers.FloatField(allow_null=True)


class AssetOut(serializers.Serializer):
    """An uploaded file and what was found in it."""

    id = serializers.CharField()
    object = kind_of("asset")
    role = serializers.ChoiceField(choices=Asset.Role.values)
    state = serializers.ChoiceField(choices=Asset.State.values)
    name = serializers.CharField(allow_blank=True)
    kind = serializers.ChoiceField(choices=MEDIA_KINDS, allow_null=True)
    mime = serializers.CharField(allow_null=True)
    sha256 = serializers.CharField()
    size = serializers.IntegerField()
    media = serializers.DictField(allow_null=True)
    faces = serializers.ListField(child=serializers.DictField())
    progress = ProgressOut(allow_null=True)
    failure = FailureOut(allow_null=True)
    created_at = serializers.DateTimeField()
    erased_at = serializers.DateTimeField(allow_null=True)


class ConsentOut(serializers.Serializer):
    """A consent without the person: state, scope and dates."""

    id = serializers.CharField()
    object = kind_of("consent")
    state = serializers.CharField()
    role = serializers.ChoiceField(choices=ROLES)
    livemode = serializers.BooleanField()
    assurance_asked = serializers.ChoiceField(choices=LEVELS, help_text="What a yes needs here.")
    assurance = serializers.ChoiceField(
        choices=LEVELS, allow_null=True, help_text="What was reached; null before a yes."
    )
    check = serializers.ChoiceField(
        choices=CHECK_STATES,
        allow_null=True,
        help_text="Where the person's live selfie stands; null before they begin. No details of it are ever shown.",
    )
    purposes = serializers.ListField(child=serializers.CharField())
    photos = FaceRef(many=True)
    target = FaceRef(allow_null=True)
    targets = FaceRef(many=True)
    partners = serializers.ListField(child=serializers.CharField())
    territories = serializers.ListField(child=serializers.CharField())
    relationship = serializers.CharField(allow_blank=True)
    political = serializers.BooleanField(help_text="Asked for while the request is open; from then on, allowed.")
    max_outputs = serializers.IntegerField()
    outputs_left = serializers.IntegerField()
    max_seconds = serializers.FloatField(allow_null=True)
    max_total_seconds = serializers.FloatField(allow_null=True)
    seconds_left = serializers.FloatField(allow_null=True)
    valid_until = serializers.DateTimeField()
    link_expires_at = serializers.DateTimeField()
    created_at = serializers.DateTimeField()
    given_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)


class ConsentRequestOut(ConsentOut):
    """The new consent with its link, which is shown this one time."""

    link = serializers.URLField()


class AttestationOut(serializers.Serializer):
    id = serializers.CharField()
    object = kind_of("attestation")
    kind = serializers.ChoiceField(choices=ATTESTATION_KINDS)
    basis = serializers.CharField(allow_null=True)
    text_version = serializers.CharField()
    text_sha256 = serializers.CharField()
    created_at = serializers.DateTimeField()


class BoxOut(serializers.Serializer):
    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]


class AttestationTextOut(serializers.Serializer):
    """A text to be shown in full, with its boxes unticked."""

    object = kind_of("attestation_text")
    kind = serializers.ChoiceField(choices=ATTESTATION_KINDS)
    version = serializers.CharField()
    sha256 = serializers.CharField()
    locale = serializers.CharField()
    text = serializers.CharField()
    boxes = BoxOut(many=True)


class JobConsentOut(serializers.Serializer):
    id = serializers.CharField()
    role = serializers.ChoiceField(choices=ROLES)
    state = serializers.CharField()


class JobFaceOut(serializers.Serializer):
    asset = serializers.CharField()
    face = serializers.IntegerField()


class JobTargetOut(serializers.Serializer):
    asset = serializers.CharField()


class JobSwapOut(serializers.Serializer):
    """One replacement: `sources` onto the face `target_face` of the target, and who answers for both people."""

    target_face = serializers.IntegerField()
    sources = JobFaceOut(many=True)
    donor_consent = serializers.CharField()
    target_consent = serializers.CharField(allow_null=True)
    target_attestation = serializers.CharField(allow_null=True)


class JobOut(serializers.Serializer):
    """A replacement job. `failure` speaks in the states failed, refused and canceled.

    `consents` are those of all replacements, each once.
    """

    id = serializers.CharField()
    object = kind_of("job")
    state = serializers.ChoiceField(choices=Job.State.values)
    final = serializers.BooleanField()
    livemode = serializers.BooleanField()
    purpose = serializers.ChoiceField(choices=PURPOSES)
    target = JobTargetOut()
    swaps = JobSwapOut(many=True)
    consents = JobConsentOut(many=True)
    declaration = serializers.CharField()
    options = serializers.DictField()
    progress = ProgressOut(allow_null=True)
    failure = FailureOut(allow_null=True)
    warnings = serializers.ListField(child=serializers.CharField())
    quality = serializers.DictField()
    output = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class OutputOut(serializers.Serializer):
    """A published result. `mark_id` is what its invisible mark carries."""

    id = serializers.CharField()
    object = kind_of("output")
    job = serializers.CharField()
    livemode = serializers.BooleanField()
    permission = serializers.ChoiceField(choices=Output.Permission.values)
    permission_changed_at = serializers.DateTimeField(allow_null=True)
    mime = serializers.CharField()
    sha256 = serializers.CharField()
    size = serializers.IntegerField()
    media = serializers.DictField()
    mark_id = serializers.CharField()
    manifest_label = serializers.CharField()
    time_stamp = serializers.ChoiceField(
        choices=Output.TimeStamp.values, help_text="Who vouches for the time of the signature; trusted: RFC 3161."
    )
    status_url = serializers.CharField(
        help_text="The public page that says whether the permission holds, to link to; below it /badge.svg, to embed."
    )
    published_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    erased_at = serializers.DateTimeField(allow_null=True)
    copies_deleted_at = serializers.DateTimeField(
        allow_null=True, help_text="When you confirmed that your copies are deleted."
    )
    content_url = serializers.URLField()
    manifest_url = serializers.URLField()


# Without a docstring, which the description would show at each list. What `data` holds each list says itself.
class ListOut(serializers.Serializer):
    object = kind_of("list")
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class AssetList(ListOut):
    data = AssetOut(many=True)  # type: ignore[assignment]


class ConsentList(ListOut):
    data = ConsentOut(many=True)  # type: ignore[assignment]


class JobList(ListOut):
    data = JobOut(many=True)  # type: ignore[assignment]


class VerifiedOutput(serializers.Serializer):
    """Our record of the output that the file is or comes from."""

    id = serializers.CharField()
    manifest = serializers.CharField()
    permission = serializers.ChoiceField(choices=Output.Permission.values)
    permission_changed_at = serializers.DateTimeField(allow_null=True)
    published_at = serializers.DateTimeField(allow_null=True)
    livemode = serializers.BooleanField()
    target_cover = serializers.ChoiceField(choices=["consent", "attestation"])
    not_screened = serializers.ListField(child=serializers.CharField())
    time_stamp = serializers.ChoiceField(choices=Output.TimeStamp.values, allow_null=True)


class VerifiedMark(serializers.Serializer):
    """The invisible mark that was read; `false_alarm_log10` -9 means one false alarm in 10^9."""

    id = serializers.CharField()
    alg = serializers.CharField()
    score = serializers.FloatField()
    false_alarm_log10 = serializers.FloatField()
    spans = serializers.ListField(child=serializers.ListField(child=serializers.FloatField()))


class VerifiedContent(serializers.Serializer):
    """The content compared with our record."""

    matches = serializers.BooleanField(allow_null=True, help_text="Null where the picture is too plain to tell.")
    pdq_distance = serializers.IntegerField(allow_null=True)
    grid_correlation = serializers.FloatField(allow_null=True)
    share = serializers.FloatField(
        allow_null=True, help_text="Of the places with something to see, the share that agrees with what we published."
    )
    regions = serializers.ListField(
        child=serializers.CharField(trim_whitespace=False),
        help_text='Rows over the published picture: "=" agrees, "x" differs, "." plain, space not in the file.',
    )


class VerifiedMedia(serializers.Serializer):
    """What kind of file it was; `duration` in seconds, null for a photo and for a file that needed no look inside."""

    kind = serializers.ChoiceField(choices=MEDIA_KINDS)
    duration = serializers.FloatField(allow_null=True)


class PossibleMatchOut(serializers.Serializer):
    """An output of ours that looks alike; it is no proof of anything."""

    manifest = serializers.CharField()
    permission = serializers.ChoiceField(choices=Output.Permission.values)
    pdq_distance = serializers.IntegerField(help_text="Bits of 256 in which the fingerprints differ.")
    seconds = serializers.FloatField(help_text="Where in our video.")


class VerificationOut(serializers.Serializer):
    """What can be said about a file. `code` and `reason` are stable; the texts are for people.

    All of it is null while the state is `running`, and after it `failed`. The verdict is made anew at each reading, so
    that permission is as it is then.
    """

    object = kind_of("verification")
    id = serializers.CharField()
    state = serializers.ChoiceField(choices=Verification.State.values)
    failure = FailureOut(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(help_text="Until then the answer can be read again.")
    url = serializers.CharField(help_text="The same answer as a page.")
    media = VerifiedMedia(allow_null=True)
    ai = serializers.CharField(allow_null=True, help_text="One sentence on the use of AI.")
    code = serializers.ChoiceField(choices=get_args(Code), allow_null=True)
    reason = serializers.ChoiceField(choices=get_args(Reason), allow_blank=True, allow_null=True)
    severity = serializers.ChoiceField(choices=["neutral", "warning", "error"], allow_null=True)
    headline = serializers.CharField(allow_null=True)
    sentence = serializers.CharField(allow_null=True)
    output = VerifiedOutput(allow_null=True)
    manifest = serializers.DictField(
        allow_null=True, help_text="What the Content Credentials say, and how far they can be believed."
    )
    mark = VerifiedMark(allow_null=True)
    content = VerifiedContent(allow_null=True)
    possible_matches = PossibleMatchOut(many=True, allow_null=True)


class PointedError(serializers.Serializer):
    pointer = serializers.CharField(allow_blank=True)
    code = serializers.CharField()
    detail = serializers.CharField()


class Problem(serializers.Serializer):
    """RFC 9457. With the code consent_required come `swap` and `role` (which replacement, and who in it, lacks a
    permission) and `consent_request`, a body ready for POST /v1/consent_requests."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()
    request_id = serializers.CharField()
    errors = PointedError(many=True, required=False)  # type: ignore[assignment]
    swap = serializers.IntegerField(required=False)
    role = serializers.ChoiceField(choices=ROLES, required=False)
    consent_request = serializers.DictField(required=False)
