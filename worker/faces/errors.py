"""The one error of this package: a face that cannot be used, with a stable code."""

from typing import Final, Literal

FaceErrorCode = Literal["no_face", "face_too_small", "pose_gap", "source_unusable"]

_MESSAGES: Final[dict[FaceErrorCode, str]] = {
    "no_face": (
        "No face was found in the picture. Nothing was changed. Use a sharp, well lit picture of the whole face."
    ),
    "face_too_small": (
        "The face is smaller than the least size that can be replaced well. Nothing was changed. "
        "Use a picture of higher resolution or one taken closer to the person."
    ),
    "pose_gap": (
        "The face to be replaced looks in a direction that no source photo shows. Nothing was changed. "
        "Add a source photo of the person turned the same way."
    ),
    "source_unusable": (
        "The source photo shows too little of the face. Nothing was changed. "
        "Use a photo in which nothing covers the face and the person looks towards the camera."
    ),
}


class FaceError(Exception):
    """A face cannot be used; `code` is stable, `message` says what happened, what was lost and what to do."""

    def __init__(self, code: FaceErrorCode, detail: str = "") -> None:
        self.code: FaceErrorCode = code
        self.message = f"{_MESSAGES[code]} ({detail})" if detail else _MESSAGES[code]
        super().__init__(self.message)
