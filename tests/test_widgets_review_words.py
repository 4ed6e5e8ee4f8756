"""What the box review says of a suggestion."""

from __future__ import annotations

from typing import Any

import pytest

from tests.test_widgets_box_review import suggestion
from widgets._review_words import evidence_words

Record = dict[str, Any]


@pytest.mark.parametrize(
    ("evidence", "more", "words"),
    [
        (
            {"overlap": 0.0, "inside": 0.0, "merged": 0.0, "second_look": 0.814}
            | {"drawn_share": 2 / 3, "detected_share": 0.456, "twins": 3.0},
            {},
            [
                "second look 0.81",
                "drawn in 2 of 3 frames that show the same ground",
                "the model sees it there with 0.46 on average",
            ],
        ),
        (
            {"drawn_share": 0.0, "detected_share": 0.0, "twins": 0.0, "folds": 0.7},
            {},
            ["70% of the models of the folds agree", "no other frame shows the same ground"],
        ),
        ({"drawn_share": 1.0, "twins": 1}, {}, ["drawn in the other frame that shows the same ground"]),
        ({"drawn_share": 0.0, "twins": 1}, {}, ["not drawn in the other frame that shows the same ground"]),
        ({"drawn_share": 0.5}, {}, ["drawn in 50% of the frames that show the same ground"]),
        (
            {"twins": 4, "detected_share": 0.0},
            {},
            ["4 other frames show the same ground", "the model does not see it there"],
        ),
        ({"twins": 1}, {}, ["one other frame shows the same ground"]),
        (
            {"overlap": 0.3, "inside": 0.5, "merged": 2.0},
            {},
            [
                "shares 30% with an annotated box",
                "50% of it inside an annotated box",
                "2 weaker detections of the same place",
            ],
        ),
        (
            {"overlap": 0.3, "merged": 1.0},
            {"kind": "spurious"},
            ["shares 30% with another annotated box", "1 weaker detection of the same place"],
        ),
        ({"overlap": 0.48}, {"kind": "bad_location", "annotation_points": [30, 20, 40, 40]}, []),
        ({"own_number": 0.12345, "day": "May", "twins": None}, {}, ["own number 0.123", "day May"]),
        (None, {}, []),
    ],
)
def test_evidence_in_plain_words(evidence: Record | None, more: Record, words: list[str]) -> None:
    assert evidence_words({**suggestion(0), "evidence": evidence, **more}) == words
