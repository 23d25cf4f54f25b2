"""Named regions of the mesh: index lists that masks, colour and shape are built from.

Landmark numbers are those of the MediaPipe mesh; the groupings are our own.
"""

from typing import Final

BROWS: Final = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)
# Even skin on both cheeks and the nose bridge: where a face shows its own skin colour most surely.
SKIN_SAMPLES: Final = (
    (117, 118, 101, 36, 205, 187, 123),
    (346, 347, 330, 266, 425, 411, 352),
    (6, 197, 195, 5, 4, 45, 51, 3, 196),
)
# The middle of the face, brows to lower lip: always replaced. A colour model sees lips, brows, lashes and shadows of
# the nose as "no skin", and a face with a hole in its middle is worse than any of them.
CENTRE: Final = (
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 353, 425, 432, 422, 424, 418, 421, 200, 201, 194, 204, 202, 212,
    205, 124,
)  # fmt: skip
UPPER_LIP: Final = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
# From the hairline down to the brows, without the temples.
FOREHEAD: Final = (
    54, 103, 67, 109, 10, 338, 297, 332, 284, 298, 293, 334, 296, 336, 9, 107, 66, 105, 63, 68,
)  # fmt: skip
# Pairs whose distance tells the opening: (upper, lower, corner, corner).
RIGHT_LIDS: Final = (159, 145, 33, 133)
LEFT_LIDS: Final = (386, 374, 362, 263)
LIPS_OPENING: Final = (13, 14, 61, 291)
