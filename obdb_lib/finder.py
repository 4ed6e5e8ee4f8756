"""From detections to ranked candidates: each with the probability that a person would accept it.

One question is asked of all kinds: does a plant of this class stand in this box, as nobody drew it? What separates
drawn plants from candidates is learned once (``acceptance``); how much of it a kind needs is settled kind by kind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.acceptance import ACCEPTED, ANNOTATED, ASKED, LEAST_EACH, OPEN, REJECTED, Acceptance, acceptance, settled
from obdb_lib.boxes import DEFAULT_MATCH_IOU, IntArray
from obdb_lib.candidates import BAD_LOCATION, KINDS, MISSING, SPURIOUS, SWAPPED_CLASS, find_candidates
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.evidence import MIRRORED, Claims, Scene, evidence
from obdb_lib.explained import DEFAULT_LOOSE_IOU
from obdb_lib.frame_matching import flat_boxes, match_frames, overlapping
from obdb_lib.frames import FrameStore
from obdb_lib.likeness import likeness
from obdb_lib.progress import Progress
from obdb_lib.records import Document
from obdb_lib.snapshots import BOX, Snapshot
from obdb_lib.twin_frames import twin_frames

DEFAULT_FIND_SCORE = 0.05
"""Detections below this propose nothing; lower it for more and weaker candidates, which the ranking puts last."""
EMPTY_PLACES = 1000
"""Boxes put onto bare ground, to learn what an annotation without a plant looks like."""
BARE_IOU = 0.05
"""Bare ground overlaps annotations by less than this."""
SHOWN = ("second_look", "folds", "drawn_share", "detected_share", "twins")
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
DRAWN, BARE = "drawn", "bare"
DECIDED = {"accept": ACCEPTED, "reject": REJECTED}


@dataclass(frozen=True)
class Findings:
    """Candidates and what is thought of them.

    Attributes:
        candidates: a candidate table (``find_candidates``), the most probable first, with ``probability`` (0..1; NaN
            where nothing could be learned) and the numbers it rests on: ``second_look`` (score in the mirrored frame,
            0..1), ``folds`` (share of the detectors that looked and see it), ``drawn_share`` (of
            the frames that show the same ground, how many have the plant drawn), ``detected_share`` (mean score of the
            plant in them, 0 where it is not seen), ``twins`` (how many such frames there are).
        acceptance: what was learned from the annotations.
        expected: number of candidates of each kind that a person is expected to accept.
        text: sentences on both.
    """

    candidates: pd.DataFrame
    acceptance: Acceptance
    expected: pd.Series
    text: str


def find(
    detections: pd.DataFrame,
    snapshot: Snapshot,
    *,
    img_paths: Sequence[str] | None = None,
    duplicates: DuplicateGroups | None = None,
    frames: FrameStore | None = None,
    seen: Collection[str] = (),
    decided: pd.DataFrame | None = None,
    kinds: Sequence[str] = KINDS,
    min_score: float | Mapping[str, float] = DEFAULT_FIND_SCORE,
    min_iou: float = DEFAULT_MATCH_IOU,
    loose_iou: float = DEFAULT_LOOSE_IOU,
    seed: int = 0,
    progress: Progress | None = None,
) -> Findings:
    """Candidates of the given kinds, the most probable first.

    Args:
        detections: columns as ``detect`` returns and, where there, ``look`` (plain, mirrored) and ``fold``. For honest
            probabilities no detector has seen the frames it judged (``out_of_fold``).
        img_paths: the frames that were judged; all of the snapshot when None.
        duplicates: frames that show the same ground; without them neighbours on a video cannot speak for each other,
            and groups are single frames.
        frames: where pictures come from; with it, crops are compared with those of drawn plants (``likeness``).
        seen: frames on which a detector was trained that judged them (``OutOfFold.frames``); nothing is learned from
            them, for there a drawn plant is found by heart and a forgotten one was taught to be soil.
        decided: decisions made so far (``decided_places``); they are learned from.
        min_score, min_iou, loose_iou: see ``find_candidates``.

    Raises:
        DatasetError: wrong columns, values or kinds.
    """
    plain = detections
    if "look" in detections:
        plain = detections[detections["look"] != MIRRORED].reset_index(drop=True)
        plain.attrs.update(detections.attrs)
    paths = list(snapshot.frames["img_path"]) if img_paths is None else list(img_paths)
    candidates_of = partial(
        find_candidates, plain, img_paths=paths, min_score=min_score, min_iou=min_iou, loose_iou=loose_iou
    )
    # All kinds: the missing ones are learned from, whatever is asked for.
    found = candidates_of(snapshot)
    twins = twin_frames(snapshot.frames, duplicates)
    drawn = _drawn_plants(candidates_of(snapshot.annotations.iloc[:0], kinds=[MISSING]), snapshot, min_iou)
    bare = _bare_places(plain, snapshot, seed) if SPURIOUS in kinds else drawn.iloc[:0]
    claims = pd.concat([drawn, found, bare], ignore_index=True)
    asked_about = Claims(claims, claims["annotation_id"].to_numpy(object))
    numbers = evidence(asked_about, Scene(snapshot.annotations, detections, twins))
    if frames is not None:
        ground = None if duplicates is None else duplicates.groups
        alike = likeness(asked_about, snapshot, frames, ground=ground, progress=progress)
        numbers = pd.concat([numbers, alike], axis=1)
    told = _told(found, decided)
    known = (found["kind"] == MISSING) & ((told != OPEN) | ~found["img_path"].isin(list(seen)))
    kind = np.concatenate([np.full(len(drawn), DRAWN), found["kind"], np.full(len(bare), BARE)]).astype(object)
    state = np.full(len(claims), ASKED, dtype=object)
    state[: len(drawn)] = np.where(drawn["img_path"].isin(list(seen)), ASKED, ANNOTATED)
    inside = slice(len(drawn), len(drawn) + len(found))
    state[inside] = np.where(known, told, ASKED)
    numbers_shown, (numbers, every) = numbers, _forgotten(numbers, np.asarray(kind == DRAWN, dtype=bool))
    learned = acceptance(
        numbers,
        state[every],
        _groups(claims, duplicates)[every],
        strata=np.asarray(numbers["drawn_any"] > 0, dtype=np.int64),
        spare=np.arange(len(every)) >= len(claims),
        seed=seed,
    )
    labels = np.full(len(claims), OPEN, dtype=object)
    labels[inside] = told
    probability = _by_kind(learned, kind, labels, len(claims))[inside]
    result = found.assign(probability=probability, **_shown(numbers_shown.iloc[inside]))
    result = result[result["kind"].isin(list(kinds))]
    result = result.sort_values(["probability", "score"], ascending=False, kind="stable").reset_index(drop=True)
    result.attrs.update(found.attrs)
    expected = result.groupby("kind")["probability"].sum().reindex(list(kinds), fill_value=0.0)
    words = ", ".join(f"{name} {count:.0f} of {(found['kind'] == name).sum()}" for name, count in expected.items())
    hope = f" Expected to be accepted: {words}." if learned.learned else ""
    return Findings(result, learned, expected, f"{learned.text}{hope}")


def _drawn_plants(every: pd.DataFrame, snapshot: Snapshot, min_iou: float) -> pd.DataFrame:
    """Of the candidates that there would be were nothing drawn, those that an annotation of their class confirms.

    Each carries the ``annotation_id``. What the detector never finds is no positive: nobody would be asked about it.
    """
    found, drawn = flat_boxes(every, snapshot.annotations)
    pairs = match_frames(found, drawn, min_iou=min_iou).pairs
    ids = snapshot.annotations["annotation_id"].to_numpy(object)
    return every.iloc[pairs[:, 0]].assign(annotation_id=ids[pairs[:, 1]]).reset_index(drop=True)


def _forgotten(numbers: pd.DataFrame, drawn: Bools) -> tuple[pd.DataFrame, IntArray]:
    """Evidence with drawn plants once more, as if they had been forgotten in all frames that show them.

    Whoever misses a plant often misses it in all frames, and then no neighbour has it drawn. How many of the candidates
    are such plants has to be estimated apart from those that were missed in one frame alone.

    Args:
        numbers: evidence of the claims. drawn: (N,) which are drawn plants.

    Returns:
        The evidence, and (M,) which claim each of its rows is about; the claims themselves come first.
    """
    rows = np.flatnonzero(drawn & (numbers["drawn_any"] > 0).to_numpy(bool))
    every = np.concatenate([np.arange(len(numbers)), rows]).astype(np.int64)
    whole = numbers.iloc[every].reset_index(drop=True)
    whole.loc[whole.index >= len(numbers), ["drawn", "drawn_any", "drawn_share"]] = 0.0
    return whole, every


def _bare_places(plain: pd.DataFrame, snapshot: Snapshot, seed: int) -> pd.DataFrame:
    """Boxes of annotations put onto other frames, where nothing is drawn: annotations without a plant.

    ``score`` is that of the best detection of the class there, as for spurious candidates.
    """
    drawn, frames = snapshot.annotations, snapshot.frames
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(drawn), size=EMPTY_PLACES if len(drawn) else 0)
    places = frames.iloc[rng.integers(len(frames), size=len(rows))]
    boxes = drawn[BOX].to_numpy(np.float32)[rows]
    sides, room = boxes[:, 2:] - boxes[:, :2], places[["width", "height"]].to_numpy(np.float32)
    corner = (rng.random((len(rows), 2)) * np.maximum(room - sides, 0)).astype(np.float32)
    bare = pd.DataFrame(np.hstack([corner, np.minimum(corner + sides, room)]), columns=BOX).assign(
        img_path=places["img_path"].to_numpy(object),
        object_class=drawn["object_class"].to_numpy(object)[rows],
        annotation_id="",
    )
    mine, theirs, seen = flat_boxes(bare, drawn, plain)
    taken = np.zeros(len(bare), dtype=bool)
    taken[overlapping(mine, theirs, min_iou=BARE_IOU).first] = True
    score = np.zeros(len(bare), dtype=np.float32)
    near = overlapping(mine, seen, min_iou=DEFAULT_LOOSE_IOU, class_aware=True)
    np.maximum.at(score, near.first, plain["score"].to_numpy(np.float32)[near.second])
    return bare.assign(score=score)[~taken].reset_index(drop=True)


def _by_kind(learned: Acceptance, kind: NDArray[np.object_], told: NDArray[np.object_], count: int) -> Floats:
    """(N,) probability of each claim: each kind has its own share of right ones. NaN where nothing was learned.

    Args:
        kind: (N,) of each claim; DRAWN for annotations, BARE for bare ground.
        told: (N,) state of each candidate by decisions.
        count: N; what was learned from more than once comes after them.
    """
    probability, plant = learned.probability[:count].copy(), learned.plant[:count]
    state = learned.state[:count]
    if not learned.learned:
        return np.full(len(kind), np.nan)  # a score is no probability, and no rule shall take it for one
    for name in (SWAPPED_CLASS, BAD_LOCATION, SPURIOUS):
        rows = np.asarray(kind == name, dtype=bool)
        # A spurious annotation is right the more, the less the place looks like a plant.
        sign = -1.0 if name == SPURIOUS else 1.0
        positive = np.asarray(kind == BARE if name == SPURIOUS else state == ANNOTATED, dtype=bool)
        if name == SPURIOUS:
            probability[rows] = 1 - probability[rows]
        if min(int(rows.sum()), int(positive.sum())) >= LEAST_EACH:
            probability[rows] = settled(sign * plant, positive, rows, told)[rows]
    return probability


def _told(found: pd.DataFrame, decided: pd.DataFrame | None) -> NDArray[np.object_]:
    """(C,) accepted or rejected where a decision speaks of the same place, kind and class; open elsewhere."""
    told = np.full(len(found), OPEN, dtype=object)
    if decided is None or not len(decided):
        return told
    spoken = decided[decided["verdict"].isin(list(DECIDED))]
    # Kinds and classes in one name, so that a decision on one kind says nothing of another.
    names = [table.assign(object_class=table["kind"] + "/" + table["object_class"]) for table in (found, spoken)]
    pairs = match_frames(*flat_boxes(*names)).pairs
    told[pairs[:, 0]] = spoken["verdict"].map(DECIDED).to_numpy(object)[pairs[:, 1]]
    return told


def decided_places(suggestions: Sequence[Document], standing: Mapping[str, Document]) -> pd.DataFrame:
    """What people decided so far, by place: columns img_path, kind, object_class, x1, y1, x2, y2, verdict.

    Args:
        suggestions: those that were decided on. standing: suggestion id -> decision (``Journal.standing``); decisions
            of a rule are no labels and are left out.
    """
    rows = []
    for one in suggestions:
        decision = standing.get(one["_id"])
        if decision is not None and not decision.get("rule"):
            place = (one["img_path"], one.get("kind", MISSING), one["object_class"], *one["points"])
            other = decision.get("object_class") not in (None, one["object_class"])
            # Accepted as another class: the plant is there, but what was proposed was wrong.
            rows.append((*place, "reject" if other and decision["verdict"] == "accept" else decision["verdict"]))
    return pd.DataFrame(rows, columns=["img_path", "kind", "object_class", *BOX, "verdict"])


def _groups(claims: pd.DataFrame, duplicates: DuplicateGroups | None) -> IntArray:
    """(N,) number of each claim's group: frames that show the same ground, else the frame."""
    names = claims["img_path"]
    if duplicates is None:
        return pd.factorize(names)[0].astype(np.int64)
    group = names.map(duplicates.groups)
    return pd.factorize(group.astype(object).where(group.notna(), names))[0].astype(np.int64)


def _shown(numbers: pd.DataFrame) -> dict[str, Floats]:
    """The numbers that a person is shown, in plain units."""
    shown = {name: numbers[name].to_numpy(np.float64) for name in SHOWN}
    shown["second_look"] = 1 / (1 + np.exp(-shown["second_look"]))
    shown["twins"] = np.round(np.expm1(shown["twins"]))
    return shown
