"""States, failures and stages in the words of the person in front of the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from webapp.jobs.models import Asset, Job, Output


@dataclass(frozen=True)
class State:
    """A state's name for people, the tone of its badge, and what it means for them."""

    label: str
    tone: str  # class of the badge: active, good, warn, bad or nothing
    sentence: str


JOB_STATES = {
    Job.State.QUEUED: State("Queued", "active", "Waiting until the files have been checked."),
    Job.State.SCREENING: State("Being checked", "active", "The files are being checked before anybody is asked."),
    Job.State.IN_REVIEW: State("In review", "warn", "A person of this service looks at it before it goes on."),
    Job.State.AWAITING_CONSENT: State(
        "Waiting for permission", "warn", "It starts by itself as soon as everybody agreed."
    ),
    Job.State.READY: State("Ready", "active", "Everybody agreed. It starts as soon as a worker is free."),
    Job.State.RUNNING: State("Running", "active", "The face is being replaced."),
    Job.State.FINISHING: State("Finishing", "active", "The result is being signed and checked."),
    Job.State.SUCCEEDED: State("Done", "good", "The result is marked, signed and ready."),
    Job.State.FAILED: State("Failed", "bad", "Something went wrong on our side."),
    Job.State.CANCELED: State("Canceled", "", "It was canceled. Nothing was published."),
    Job.State.REFUSED: State("Refused", "bad", "It may not be carried out. Nothing was published."),
}
ASSET_STATES = {
    Asset.State.UPLOADED: State("Waiting to be checked", "active", "It is next in line."),
    Asset.State.SCREENING: State("Being checked", "active", "Looking for faces and for what may not be used."),
    Asset.State.READY: State("Good to use", "good", "Checked."),
    Asset.State.IN_REVIEW: State("In review", "warn", "A person of this service looks at it. This can take a while."),
    Asset.State.REFUSED: State("Not accepted", "bad", "It cannot be used."),
    Asset.State.FAILED: State("Check failed", "bad", "The check itself failed. That is our fault."),
}
CONSENT_STATES = {
    "requested": State("No answer yet", "warn", "There is no answer yet."),
    "viewed": State("Opened, no answer yet", "warn", "The link was opened, there is no answer yet."),
    "given": State("Agreed", "good", "Permission is given."),
    "refused": State("Said no", "bad", "The person said no."),
    "lapsed": State("Did not answer in time", "bad", "The link has run out."),
    "expired": State("Expired", "bad", "The permission has run out."),
    "exhausted": State("Agreed, used", "good", "The permission was used for the agreed number of results."),
    "withdrawn": State("Withdrawn", "bad", "The person took the permission back."),
    "revoked": State("Revoked", "bad", "The operator ended the permission."),
    "superseded": State("Replaced", "", "A newer permission took its place."),
}
UNKNOWN = State("Unknown", "", "")
STAGES = {
    "start": "getting ready",
    "probe": "reading the file",
    "decode": "reading the pictures",
    "analyse": "looking for faces",
    "analysis": "looking for faces",
    "screen": "checking the content",
    "swap": "replacing the face",
    "upscale": "making the picture larger",
    "mark": "embedding the mark",
    "encode": "writing the result",
    "label": "adding the visible label",
    "sign": "signing the Content Credentials",
    "verify": "checking the finished file",
    "publish": "publishing",
}
ROLES = {"face_donor": "whose face is put in", "target_person": "whose face is replaced"}
PURPOSES = {
    "personal": ("Personal", "For yourself and the people shown."),
    "social": ("Social media", "To be posted in public, without payment."),
    "advertising": ("Advertising", "To promote something."),
    "film": ("Film and series", "As part of a production."),
}
# Where the result will be shown (watermark.jurisdictions): the visible label then follows the rules there too.
JURISDICTIONS = {
    "eu": ("European Union", "Top right, for the whole length of a video."),
    "us-ca": ("California", "Clear and hard to remove."),
    "cn": ("Mainland China", "The label also reads AI合成, and the file's data say the same."),
}
LABEL_LANGUAGES = {
    "en": "English",
    "de": "Deutsch",
    "fr": "Français",
    "es": "Español",
    "it": "Italiano",
    "pt": "Português",
    "nl": "Nederlands",
    "zh": "简体中文",
}
# How a video is written (webapp.jobs.options), in the order of the page; the first of each is the default.
CODECS = {
    "h264": "H.264: plays everywhere",
    "hevc": "H.265: about a third smaller, slower to make, not in every browser",
    "av1": "AV1: smallest, for recent devices",
}
QUALITIES = {"18": "Standard", "14": "High: about twice the size", "24": "Small file: fine detail suffers"}
PRESETS = {"fast": "Fast", "balanced": "Balanced", "slow": "Thorough: several times slower, a little smaller"}
BOOSTS = {
    "1": "As many as the model has",
    "2": "Twice as many a side: 4 times the work",
    "3": "3 times as many a side: 9 times the work",
    "4": "4 times as many a side: 16 times the work",
}
MASK_GROUPS = {
    "mask_types": ("Show the new face only where", "all that is ticked must hold; nothing ticked: as usual"),
    "mask_areas": ("Areas", "what the landmarks enclose"),
    "mask_regions": ("Parts", "as a model sees them"),
}
MASKS = {
    "box": "It is away from the edges of its square",
    "occlusion": "Nothing is in front of it: hands, hair, a microphone",
    "region": "It is one of the parts ticked below",
    "area": "It is one of the areas ticked below",
}
MASK_AREAS = {
    "upper_face": "Upper face, down to the nose",
    "lower_face": "Lower face, from the nose on",
    "mouth": "Mouth",
}
MASK_REGIONS = {
    "skin": "Skin",
    "left_eyebrow": "Left eyebrow",
    "right_eyebrow": "Right eyebrow",
    "left_eye": "Left eye",
    "right_eye": "Right eye",
    "glasses": "Glasses",
    "nose": "Nose",
    "mouth": "Inside of the mouth",
    "upper_lip": "Upper lip",
    "lower_lip": "Lower lip",
}
BLENDS = {
    "feather": "Faded out at its edge (standard)",
    "multiband": "Faded out by fineness: hides the edge best in uneven light",
    "poisson": "In the colours that the picture has round it",
}
MASK_BLURS = {"0.0": "Hard", "0.15": "A little soft", "0.3": "Soft (standard)", "0.5": "Very soft"}
HEIGHTS = {
    "": "As the video is",
    "2160": "2160 pixels high (4K)",
    "1440": "1440 pixels high",
    "1080": "1080 pixels high (Full HD)",
    "720": "720 pixels high (HD)",
    "480": "480 pixels high",
}
RATES = {
    "": "As the video is",
    "24": "24 (film)",
    "25": "25",
    "30": "30",
    "50": "50",
    "60": "60",
}
BASES = {
    "owns_footage": "We own this footage and the person in it agreed to edits",
    "licensed": "We have a licence that covers this use",
    "public_domain": "It is in the public domain",
    "parody_reviewed": "It is parody or satire and was reviewed",
}

RELATIONSHIPS = {
    "": "I would rather not say",
    "self": "It is me",
    "friend": "A friend or relative",
    "employee": "Somebody who works for us",
    "talent": "Somebody hired for this",
    "other": "Somebody else",
}

WARNINGS = {
    "pose_gap_wide": "The two faces look in rather different directions; the result may look strained.",
    "source_blurred": "The donor's photo is not quite sharp, so the new face is not either.",
    "target_small": "The replaced face is small in the picture, so few details could be kept.",
    "identity_weak": "The new face does not resemble the donor as closely as it should. Another photo may do better.",
    "face_lost": "In the result the face could not be found again. Look at it carefully.",
    "not_judged": "The result could not be measured. Look at it carefully.",
    "frames_not_replaced": "In some frames the face was covered or turned away; these frames show it unchanged.",
    "audio_unreadable": "The sound could not be read and is missing.",
    "sound_tracks_dropped": "The video had a sound track that cannot be read here; it was left out.",
    "subtitles_dropped": "The video had subtitles that are pictures or cannot be read; they were left out.",
    "chapters_dropped": "The video had more chapters than fit; the last ones were left out.",
    "size_limited": "The result could not be made as large or as small as was asked for.",
    "hardware_encoder_missing": "No video device was there to write the result; it was written in software.",
    "hardware_decoder_missing": "No video device was there to read the video; it was read in software.",
    "tone_mapped": "The video was in high dynamic range; its colours were converted and may look different.",
    "interlaced": "The video is interlaced; fine lines may show in fast movement.",
    "animation_first_picture": "The file was an animation; only its first picture was used.",
    "sixteen_bits_reduced": "The picture had 16 bits a colour; the result has 8, which is rarely visible.",
    "transparency_on_white": "The picture was partly transparent; it was put on white.",
    "colour_profile_ignored": "The picture's colour profile could not be used; its colours may look different.",
}

# What was lost and what to do, for failures whose own message says only what happened.
LOST = "Nothing was published. Your uploads are kept until their normal time runs out."
AGAIN = "Start a new job with the same files; the people are asked again, because their permission was not used."
HIDDEN = {
    "withdrawn": "A person shown in it withdrew the permission",
    "revoked": "The operator ended the permission",
    "taken_down": "It was taken down",
}
# After these the same files must not simply be sent once more.
NOT_AGAIN = {"consent_withdrawn", "consent_revoked", "review_rejected", "appeal_rejected", "refused_by_screening"}
ADVICE = {
    "consent_refused": "Choose another photo or person. Do not ask the same person again unless they come back to you.",
    "consent_withdrawn": "Respect the decision: delete copies you made of earlier results of this person.",
    "consent_revoked": "Write to whoever runs this service. Delete copies you made of earlier results of this person.",
    "consent_lapsed": "Start a new job with the same files; it sends a new link.",
    "consent_expired": "Start a new job with the same files; it asks for a new permission.",
    "review_rejected": "Do not send the same again. Write to whoever runs this service if you think it is wrong.",
    "appeal_rejected": "Do not send the same again. Write to whoever runs this service if you think it is wrong.",
    "refused_by_screening": "Do not send the same again.",
    "asset_refused": "Upload another file and start a new job.",
    "pose_gap": "Use a photo in which the donor looks in a direction closer to the target's.",
    "no_face": "Use a photo or video in which the face is large, sharp and not covered.",
    "face_too_small": "Use a picture in which the face is at least 64 pixels wide.",
}


def face(index: int) -> str:
    """How a face of a target is called."""
    return f"face {index + 1}"


def hidden(output: Output | None) -> str:
    """Why a published result is not shown any more, with the day; "" if it is, or if there is none."""
    if output is None or output.permission not in HIDDEN or output.permission_changed_at is None:
        return ""
    day = output.permission_changed_at
    return f"{HIDDEN[output.permission]} on {day.day} {day:%B %Y}."


def job_state(job: Job) -> State:
    """The words for a job's state."""
    return JOB_STATES.get(Job.State(job.state), UNKNOWN)


def asset_state(asset: Asset) -> State:
    """The words for an asset's state."""
    return ASSET_STATES.get(Asset.State(asset.state), UNKNOWN)


def consent_state(state: str, *, over: bool = False) -> State:
    """The words for a consent's state; a question whose job is over waits for nobody any more."""
    if over and state in {"requested", "viewed"}:
        return State("Did not answer", "", "The job ended before there was an answer.")
    return CONSENT_STATES.get(state, UNKNOWN)


# How sure a yes must be, and where the person's video stands (consent.levels, consent.challenge.check_state).
LEVELS = {"L1": "their link and signature", "L2": "their link and signature, and a live video of them"}
CHECKS = {
    "waiting": "They have answered; the video is still to be made.",
    "checking": "Their video is being checked.",
    "review": "A reviewer of this service looks at their video.",
}


def assurance(asked: str, reached: str | None, check: str | None) -> str:
    """What a yes needs here, what was reached, and what is under way; no details of any video."""
    if reached:
        return f"Confirmed by {LEVELS.get(reached, reached)} ({reached}; asked for: {asked})."
    needs = f"A yes needs {LEVELS.get(asked, asked)} ({asked})."
    return f"{needs} {CHECKS[check]}" if check in CHECKS else needs


@dataclass(frozen=True)
class Failure:
    """A failure in three parts."""

    happened: str
    lost: str
    advice: str


def failure(job: Job) -> Failure | None:
    """What happened, what was lost, what to do; None while there is nothing to explain."""
    if job.state not in {Job.State.FAILED, Job.State.REFUSED, Job.State.CANCELED}:
        return None
    happened = job.failure_message or job_state(job).sentence
    return Failure(happened, LOST, ADVICE.get(job.failure_code, AGAIN))


def warnings(codes: list[str]) -> list[str]:
    """Warnings as sentences, each once; one without words of its own is named, so that somebody can be asked."""
    unknown = "Something else was noticed ({}). Look at the result carefully."
    return list(dict.fromkeys(WARNINGS.get(code) or unknown.format(code.replace("_", " ")) for code in codes))


def progress(state: dict[str, Any]) -> dict[str, Any]:
    """A progress record as percent and one line of words: `Replacing the face, frame 63 of 125, about 20 s left`."""
    fraction = min(max(float(state.get("fraction") or 0.0), 0.0), 1.0)
    stage = str(state.get("stage") or "")
    words = STAGES.get(stage, stage.replace("_", " "))
    total = int(state.get("frames_total") or 0)
    if total > 1:  # a photo is one frame, which tells nothing
        words += f", frame {state.get('frames_done') or 0} of {total}"
    eta = state.get("eta_seconds")
    if eta is not None and 0.05 <= fraction < 1:
        words += f", about {duration(float(eta))} left"
    return {"percent": round(100 * fraction), "words": words[:1].upper() + words[1:]}


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `1 h 20 min`: as exact as a person needs it."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
