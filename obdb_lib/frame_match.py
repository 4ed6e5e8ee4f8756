"""Proof that two frames show the same ground: matched features agree on one turn, zoom and shift, and so do the pixels.

Matches are mutual nearest neighbours that pass Lowe's ratio test; RANSAC finds the similarity they agree on (M. A.
Fischler and R. C. Bolles, "Random Sample Consensus", 1981). Then one picture is laid over the other, and their fine
structure is correlated where they overlap. Chance agrees with one of the two proofs now and then, hardly with both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from obdb_lib.boxes import FloatArray, IntArray
from obdb_lib.frame_features import SIDE, SMALL, Features, Grey

if TYPE_CHECKING:
    from cv2.typing import MatLike

MIN_MATCHES = 8
"""Features that have to agree on one transform; raise it to be stricter. Of 20,000 pairs of frames of different tasks
of the sample field, 7 reached 7 and 2 reached 8; each further one is about four times rarer."""
MIN_CORRELATION = 0.2
"""Laid over each other, the overlap has to correlate at least this well (-1..1); raise it to be stricter."""
MIN_EVIDENCE = 3.6
"""Least product of matches and correlation; raise it to be stricter. Strangers of the sample field reached 2.0; true
twins of the sesame photographs (two photographs of one plant that share half of their ground) go down to 2.3."""
MIN_OVERLAP = 0.3
"""Share of the smaller frame (as laid over the larger) that has to be seen in both; less is not the same ground."""
MIN_AGREEING = 0.6
"""Share of the overlap, cell by cell, whose own correlation exceeds AGREES. A part of the machine, a burned-in mark or
dirt on the lens lets features and pixels of a corner agree; the same ground agrees everywhere."""
AGREES = 0.2
CELL_PX = 16
"""Side of a cell in pixels of the small picture; smaller ones agree by chance."""
RATIO = 0.88
"""A match is kept when its distance is below this share of the second best's."""
REACH_PX = 4.0
"""A match agrees with a transform that brings its points this near to each other, in pixels of a 256 px picture."""
MAX_ZOOM = 2.5
"""Zooms beyond this, either way, are chance: the smaller frame would show a sixth of the larger."""
_BLUR = 1.0  # pixels of the small picture: what resampling and JPEG change
_BROAD = 6.0  # pixels of the small picture: wider structure is light, which all frames of a camera share


@dataclass(frozen=True)
class Match:
    """How the second frame lies over the first one.

    Attributes:
        matches: features that agree.
        correlation: of the overlap's fine structure, -1..1.
        overlap: share of the smaller frame that both show, 0..1.
        agreeing: share of the overlap, in cells, that correlates by itself, 0..1.
        mirrored: the second one is mirrored left to right first.
        turn: degrees, -180..180, anticlockwise as seen; zoom: size of the second one's ground in the first, 1 is equal.
        shift: of the picture centre (x, y), as shares of the first frame's longer side.
    """

    matches: int
    correlation: float
    overlap: float
    agreeing: float
    mirrored: bool
    turn: float
    zoom: float
    shift: tuple[float, float]

    def proves(self, min_correlation: float = MIN_CORRELATION) -> bool:
        """Whether features and pixels together leave no doubt that both frames show the same ground."""
        enough = self.overlap >= MIN_OVERLAP and self.correlation >= min_correlation and self.agreeing >= MIN_AGREEING
        return enough and self.matches * self.correlation >= MIN_EVIDENCE


def _mirror_order() -> IntArray:
    """Order in which a SIFT histogram (4 rows x 4 columns x 8 directions) describes the mirrored patch.

    A mirror keeps a feature's main direction (turned with it) and swaps what lies left and right of it.
    """
    order = np.arange(128).reshape(4, 4, 8)
    return order[::-1][:, :, [-direction % 8 for direction in range(8)]].reshape(-1)


MIRROR = _mirror_order()


def match(first: Features, second: Features, *, mirrored: bool) -> Match | None:
    """The transform most features agree on, or None where fewer than MIN_MATCHES do."""
    import cv2

    descriptors = second.descriptors[:, MIRROR] if mirrored else second.descriptors
    pairs = _mutual(first.descriptors, descriptors)
    if len(pairs) < MIN_MATCHES:
        return None
    theirs, ours = second.points[pairs[:, 1]], first.points[pairs[:, 0]]
    if mirrored:
        theirs = np.stack([_width(second, SIDE) - 1 - theirs[:, 0], theirs[:, 1]], axis=1)
    matrix, agree = cv2.estimateAffinePartial2D(
        theirs, ours, method=cv2.RANSAC, ransacReprojThreshold=REACH_PX, maxIters=2000, confidence=0.995
    )
    if matrix is None or (found := _spread(ours, theirs, agree.ravel() > 0)) < MIN_MATCHES:
        return None
    zoom = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if not 1 / MAX_ZOOM <= zoom <= MAX_ZOOM:
        return None
    picture = np.ascontiguousarray(second.picture[:, ::-1]) if mirrored else second.picture
    overlap, correlation, agreeing = _laid_over(first.picture, picture, matrix)
    height, width = second.picture.shape
    centre = np.array([width / 2, height / 2]) * SIDE / SMALL
    moved = matrix[:, :2] @ centre + matrix[:, 2] - np.array(first.picture.shape[::-1]) / 2 * SIDE / SMALL
    turn = -float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    shift = (float(moved[0] / SIDE), float(moved[1] / SIDE))
    return Match(found, correlation, overlap, agreeing, mirrored, turn, zoom, shift)


def _mutual(first: FloatArray, second: FloatArray) -> IntArray:
    """(n, 2) rows of first and second that are each other's nearest and clearly nearer than the next."""
    if min(len(first), len(second)) < MIN_MATCHES:
        return np.empty((0, 2), dtype=np.int64)
    likeness = first @ second.T
    best, back = likeness.argmax(axis=1), likeness.argmax(axis=0)
    two = np.partition(likeness, -2, axis=1)[:, -2:]
    near, next_near = np.sqrt(np.maximum(2 - 2 * two[:, 1], 0)), np.sqrt(np.maximum(2 - 2 * two[:, 0], 0))
    kept = np.flatnonzero((back[best] == np.arange(len(first))) & (near < RATIO * next_near))
    return np.stack([kept, best[kept]], axis=1)


def _spread(ours: FloatArray, theirs: FloatArray, agree: NDArray[np.bool_]) -> int:
    """Number of agreeing matches at different places: several features of one spot (its directions) count once."""
    both = np.round(np.concatenate([ours[agree], theirs[agree]], axis=1) / 2)
    if not len(both):
        return 0
    return min(len(np.unique(both[:, :2], axis=0)), len(np.unique(both[:, 2:], axis=0)))


def _width(features: Features, side: int) -> float:
    return float(features.picture.shape[1] * side / SMALL)


def _laid_over(first: Grey, second: Grey, matrix: MatLike) -> tuple[float, float, float]:
    """Overlap (share of the smaller picture), correlation of fine structure inside it, and share of it that agrees."""
    import cv2

    height, width = first.shape
    scaled = matrix.astype(np.float64).copy()
    # Pixel centres: x in the 256 px picture is (x + 0.5) * SMALL / SIDE - 0.5 in the small one.
    factor = SMALL / SIDE
    offset = (factor - 1) / 2
    scaled[:, 2] = factor * matrix[:, 2] + offset - matrix[:, :2] @ np.array([offset, offset])
    laid = cv2.warpAffine(second.astype(np.float32), scaled, (width, height), flags=cv2.INTER_LINEAR)
    inside = cv2.warpAffine(np.ones(second.shape, np.float32), scaled, (width, height)) > 0.99
    area = float(inside.sum())
    zoom2 = abs(float(np.linalg.det(scaled[:, :2])))
    overlap = area / min(height * width, second.size * zoom2)
    if area < 16:
        return min(overlap, 1.0), 0.0, 0.0
    weight = inside.astype(np.float32)
    ours = _fine(first.astype(np.float32), weight)
    mine = _fine(cast("NDArray[np.float32]", laid), weight)
    ours, mine = (picture - np.float32(picture[inside].mean()) for picture in (ours, mine))
    # A flat overlap proves nothing: both have to deviate by a grey level at least.
    if min(float(ours[inside].std()), float(mine[inside].std())) < 1.0:
        return min(overlap, 1.0), 0.0, 0.0
    products = [(one * other * weight) for one, other in ((ours, mine), (ours, ours), (mine, mine))]
    both, first_square, second_square = (float(product.sum()) for product in products)
    return min(overlap, 1.0), both / float(np.sqrt(first_square * second_square)), _agreeing(products, weight)


def _agreeing(products: list[NDArray[np.float32]], weight: NDArray[np.float32]) -> float:
    """Share of the overlap in cells whose own correlation exceeds AGREES; cells mostly outside it do not count."""
    rows, columns = (np.arange(0, size, CELL_PX) for size in weight.shape)
    cells = (np.add.reduceat(np.add.reduceat(one, rows, 0), columns, 1) for one in (*products, weight))
    both, first_square, second_square, area = cells
    counted = area >= CELL_PX**2 / 3
    if not counted.any():
        return 0.0
    agree = both > AGREES * np.sqrt(first_square * second_square)
    return float(area[counted & agree].sum() / area[counted].sum())


def _fine(picture: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The picture without its broad structure, which is averaged inside the overlap alone."""
    import cv2

    smooth = cv2.GaussianBlur(picture, (0, 0), _BLUR)
    broad = cv2.GaussianBlur(picture * weight, (0, 0), _BROAD)
    share = cv2.GaussianBlur(weight, (0, 0), _BROAD)
    return cast("NDArray[np.float32]", smooth - broad / np.maximum(share, 1e-3))
