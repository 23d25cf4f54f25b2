"""Shapes of requests. They check forms only; what may be done is decided by the services."""

from __future__ import annotations

from typing import Any, get_args

from rest_framework import serializers

from consent.levels import LEVELS
from consent.models import Consent
from consent.requests import MAX_PARTNERS, MAX_PHOTOS, MAX_SECONDS, MAX_TARGETS
from watermark.jurisdictions import RULES, WORDS
from webapp.api.parsing import Strict
from webapp.jobs.mask_options import MASK_LISTS
from webapp.jobs.models import Asset
from webapp.jobs.options import PURPOSES
from webapp.jobs.services import MAX_SOURCES, MAX_SWAPS
from webapp.net import LONGEST_URL
from worker.model_choice import ENHANCERS, MESH, SWAPPERS, UPSCALERS
from worker.spec import (
    LEAST_FPS,
    LEAST_HEIGHT,
    LEAST_SCALE,
    MASK_AREAS,
    MASK_REGIONS,
    MASK_TYPES,
    MOST_BOOST,
    MOST_FPS,
    MOST_HEIGHT,
    MOST_MASK_PADDING,
    MOST_SCALE,
    Blend,
    Others,
    Preset,
    VideoCodec,
)

MAX_FACE = 9999
MEDIA_KINDS = ("photo", "video")
ATTESTATION_KINDS = ("declaration", "target_rights")
ROLES = ("face_donor", "target_person")
LOCALES = ("en", "zh-hans")


class AssetUpload(Strict):
    """An upload, as multipart/form-data."""

    file = serializers.FileField(allow_empty_file=True, help_text="A photo or a video, as the role allows.")
    role = serializers.ChoiceField(choices=Asset.Role.values, help_text="source: the face to put in.")
    name = serializers.CharField(max_length=200, required=False, help_text="Shown to people; default: the file's name.")


class FaceRef(Strict):
    """A face in an asset: `face` is its index in the asset's `faces`."""

    asset = serializers.CharField(max_length=64)
    face = serializers.IntegerField(min_value=0, max_value=MAX_FACE)


class FacePick(FaceRef):
    """A face to be used. Of an asset that shows several faces one has to be named: 422 face_choice_required."""

    face = serializers.IntegerField(
        min_value=0, max_value=MAX_FACE, allow_null=True, default=None, help_text="May be left out for an only face."
    )


class ConsentRequestCreate(Strict):
    """Ask a depicted person for permission."""

    role = serializers.ChoiceField(choices=ROLES)
    name = serializers.CharField(max_length=120)
    contact = serializers.CharField(
        max_length=254, allow_blank=True, default="", help_text="An e-mail address gets the link by mail."
    )
    locale = serializers.ChoiceField(choices=LOCALES, default="en")
    purposes = serializers.ListField(child=serializers.ChoiceField(choices=PURPOSES), min_length=1, max_length=4)
    photos = FacePick(  # type: ignore[call-arg]
        many=True, required=False, max_length=MAX_PHOTOS, help_text="The donor's photos (for the role face_donor)."
    )
    target = FacePick(required=False, allow_null=True, help_text="One target; the short form of `targets`.")
    targets = FacePick(  # type: ignore[call-arg]
        many=True, required=False, max_length=MAX_TARGETS, help_text="None: any target (for the role face_donor)."
    )
    max_outputs = serializers.IntegerField(min_value=1, max_value=1000, default=1)
    max_seconds = serializers.FloatField(
        min_value=0.04, max_value=MAX_SECONDS, allow_null=True, default=None, help_text="Longest single result."
    )
    max_total_seconds = serializers.FloatField(
        min_value=0.04, max_value=MAX_SECONDS, allow_null=True, default=None, help_text="All results together."
    )
    partners = serializers.ListField(
        child=serializers.CharField(max_length=120),
        default=list,
        max_length=MAX_PARTNERS,
        help_text="Names of organisations that may get results too; a job names one as its option `partner`.",
    )
    territories = serializers.ListField(
        child=serializers.RegexField(r"^[A-Z]{2}$"),
        default=list,
        max_length=249,
        help_text="ISO 3166-1 alpha-2 codes of where results may be shown; none: everywhere.",
    )
    intended_use = serializers.CharField(
        max_length=500, allow_blank=True, default="", help_text="What the results are for, as the person reads it."
    )
    relationship = serializers.ChoiceField(
        choices=["", *Consent.Relationship.values],
        default="",
        help_text="What the person is to you. An employee is told that they may say no, and each job is reviewed.",
    )
    political = serializers.BooleanField(
        default=False, help_text="Offer the person a tick that allows political results."
    )
    days = serializers.IntegerField(min_value=1, max_value=365, default=90)
    note = serializers.CharField(max_length=500, allow_blank=True, default="")
    assurance = serializers.ChoiceField(
        choices=LEVELS,
        required=False,
        help_text=(
            "Asks for a higher level than policy needs for these purposes; never a lower one. "
            "L3 and L4 are not installed."
        ),
    )
    requested_by = serializers.CharField(
        max_length=120, required=False, help_text="Who asks, as the person sees it; default: the organisation's name."
    )


class AttestationCreate(Strict):
    """The uploader's declaration, or a statement of rights in the target."""

    kind = serializers.ChoiceField(choices=ATTESTATION_KINDS)
    ticks = serializers.DictField(
        child=serializers.BooleanField(), help_text="Each box of the text, by name (GET /v1/attestation_texts/{kind})."
    )
    locale = serializers.ChoiceField(choices=LOCALES, default="en")
    basis = serializers.CharField(max_length=24, required=False, help_text="For target_rights.")
    statement = serializers.CharField(max_length=2000, required=False, help_text="For target_rights, in own words.")
    target = serializers.CharField(
        max_length=64, required=False, help_text="For target_rights: the asset it speaks of."
    )


class JobOptions(Strict):
    """Choices about the output."""

    output_mime = serializers.CharField(max_length=40, required=False, allow_blank=True)
    mark_mode = serializers.ChoiceField(choices=["default", "durable"], required=False)
    label_place = serializers.ChoiceField(
        choices=["top-right", "top-left", "bottom-right", "bottom-left"], required=False
    )
    label_language = serializers.ChoiceField(
        choices=["", *WORDS], required=False, help_text="Added to the languages that the jurisdictions demand."
    )
    label_extent = serializers.ChoiceField(
        choices=["throughout", "start"], required=False, help_text="start: only where every jurisdiction allows it."
    )
    jurisdictions = serializers.ListField(
        child=serializers.ChoiceField(choices=list(RULES)),
        required=False,
        max_length=len(RULES),
        help_text="Added to those of the house; none can be taken away.",
    )
    territories = serializers.ListField(
        child=serializers.RegexField(r"^[A-Z]{2}$"),
        required=False,
        max_length=249,
        help_text="Where the result is shown; default: where the jurisdictions named here hold, else everywhere.",
    )
    partner = serializers.CharField(
        max_length=120, required=False, allow_blank=True, help_text="Who gets the result besides you."
    )
    political = serializers.BooleanField(required=False, help_text="The result is for or against a political cause.")
    jpeg_quality = serializers.IntegerField(min_value=60, max_value=100, required=False)
    codec = serializers.ChoiceField(
        choices=get_args(VideoCodec), required=False, help_text="Of a video; av1 goes into video/mp4 only."
    )
    crf = serializers.IntegerField(
        min_value=10, max_value=35, required=False, help_text="Quality on x264's scale, whatever the codec; default 18."
    )
    preset = serializers.ChoiceField(
        choices=get_args(Preset), required=False, help_text="slow: smaller files for several times the work."
    )
    scale = serializers.FloatField(
        min_value=LEAST_SCALE, max_value=MOST_SCALE, required=False, help_text="Of both sides; never past the limits."
    )
    height = serializers.IntegerField(
        min_value=LEAST_HEIGHT,
        max_value=MOST_HEIGHT,
        required=False,
        allow_null=True,
        help_text="In pixels, instead of scale; kept within 0.25 to 2 times the target's.",
    )
    fps = serializers.FloatField(
        min_value=LEAST_FPS,
        max_value=MOST_FPS,
        required=False,
        allow_null=True,
        help_text="Frames are left out or repeated; the sound stays as it is. Default: the target's own times.",
    )
    trim_start = serializers.FloatField(min_value=0, required=False, help_text="Seconds from the first frame.")
    trim_end = serializers.FloatField(min_value=0, required=False, allow_null=True, help_text="Default: to the end.")
    swapper = serializers.ChoiceField(
        choices=SWAPPERS,
        required=False,
        help_text=f"{MESH} is built in; a model is refused with model_missing where the operator has not installed it.",
    )
    enhancer = serializers.ChoiceField(
        choices=ENHANCERS, required=False, allow_blank=True, help_text="After the swap, with a model as swapper only."
    )
    blend = serializers.ChoiceField(
        choices=get_args(Blend),
        required=False,
        help_text=(
            "How the face is joined to the picture: feather, the default, fades it out; multiband hides the seam best "
            "in uneven light; poisson takes the colours at the seam from the picture."
        ),
    )
    colour_match = serializers.BooleanField(
        required=False,
        help_text="Give a model's face the colours of the one it replaces; the built-in swapper always does.",
    )
    others = serializers.ChoiceField(
        choices=get_args(Others),
        required=False,
        help_text="Faces that are not replaced: keep them as they are, or blur every one of at least 64 pixels.",
    )
    enhancer_blend = serializers.IntegerField(
        min_value=0, max_value=100, required=False, help_text="How much of the enhanced face shows; default 80."
    )
    mask_types = serializers.ListField(
        child=serializers.ChoiceField(choices=MASK_TYPES),
        required=False,
        min_length=1,
        max_length=len(MASK_TYPES),
        help_text=(
            "Where the new face shows, with a model as swapper only: where all of these let it. auto, the default: "
            "box, and occlusion where an occluder is installed, so that hands and hair in front of the face stay."
        ),
    )
    mask_areas = serializers.ListField(
        child=serializers.ChoiceField(choices=MASK_AREAS), required=False, min_length=1, max_length=len(MASK_AREAS)
    )
    mask_regions = serializers.ListField(
        child=serializers.ChoiceField(choices=MASK_REGIONS), required=False, min_length=1, max_length=len(MASK_REGIONS)
    )
    mask_blur = serializers.FloatField(
        min_value=0, max_value=1, required=False, help_text="How softly the box begins; default 0.3."
    )
    mask_padding = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=MOST_MASK_PADDING),
        required=False,
        min_length=4,
        max_length=4,
        help_text="Per cents that the box leaves out: top, right, bottom, left.",
    )
    mask_models = serializers.ListField(
        child=serializers.ChoiceField(choices=MASK_LISTS["mask_models"]),
        required=False,
        max_length=len(MASK_LISTS["mask_models"]),
        help_text="Occluders and parsers by name; several are asked together. Default: the first that is installed.",
    )
    upscaler = serializers.ChoiceField(
        choices=UPSCALERS,
        required=False,
        allow_blank=True,
        help_text="Makes the whole result larger, by the factor in its name; of a video after scale and height.",
    )
    pixel_boost = serializers.IntegerField(
        min_value=1,
        max_value=MOST_BOOST,
        required=False,
        help_text="With a model as swapper only: times its own pixels a side, for so many runs squared; default 1.",
    )


class Pair(Strict):
    """Whose face is put in, and who answers for both people."""

    sources = FacePick(many=True, min_length=1, max_length=MAX_SOURCES)  # type: ignore[call-arg]
    donor_consent = serializers.CharField(max_length=64, required=False, allow_null=True, default=None)
    target_consent = serializers.CharField(max_length=64, required=False, allow_null=True, default=None)
    target_attestation = serializers.CharField(max_length=64, required=False, allow_null=True, default=None)


PAIR = ("sources", "donor_consent", "target_consent", "target_attestation")


class SwapCreate(Pair):
    """One of several replacements: the face of `sources` onto the face `target_face` of the job's target."""

    target_face = serializers.IntegerField(
        min_value=0, max_value=MAX_FACE, allow_null=True, default=None, help_text="May be left out for an only face."
    )


class JobCreate(Pair):
    """Put the face of `sources` on the face `target`; or, with `swaps`, several people's faces on several."""

    target = FacePick()
    sources = FacePick(  # type: ignore[call-arg]
        many=True, required=False, min_length=1, max_length=MAX_SOURCES, help_text="Needed unless there are `swaps`."
    )
    swaps = SwapCreate(  # type: ignore[call-arg]
        many=True,
        required=False,
        min_length=1,
        max_length=100,
        help_text=(
            f"Up to {MAX_SWAPS} replacements in the one target, in place of the face of `target`, `sources` and their "
            "permissions. Faces that none names stay untouched."
        ),
    )
    declaration = serializers.CharField(max_length=64)
    purpose = serializers.ChoiceField(choices=PURPOSES, default="personal")
    options = JobOptions(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """One of the two forms; the answer always holds `swaps`."""
        pair = {name: attrs.pop(name, None) for name in PAIR}
        face = attrs["target"].pop("face")
        if attrs.get("swaps") is None:
            if pair["sources"] is None:
                raise serializers.ValidationError({"sources": serializers.ErrorDetail("Name them.", code="required")})
            attrs["swaps"] = [{"target_face": face, **pair}]
        elif face is not None or any(value is not None for value in pair.values()):
            raise serializers.ValidationError(
                {"swaps": serializers.ErrorDetail("Say it in `swaps` or beside them, not both.", code="said_twice")}
            )
        return attrs


class VerificationAsked(Strict):
    """What both ways of asking have."""

    fetch_manifest = serializers.BooleanField(
        default=False,
        help_text=(
            "Fetch Content Credentials that the file says are kept elsewhere (https, public addresses, up to 5 MB). "
            "The server it names learns that somebody looks at the file."
        ),
    )


class VerificationCreate(VerificationAsked):
    """A file to look at, as multipart/form-data. It is deleted as soon as the answer is made."""

    file = serializers.FileField(allow_empty_file=True)


class VerificationOfAddress(VerificationAsked):
    """The address of a file to look at, as JSON. What is fetched is deleted as soon as the answer is made."""

    url = serializers.CharField(max_length=LONGEST_URL, help_text="https only; public addresses only.")
