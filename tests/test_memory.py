"""What was rejected stays silent: by place, by likeness, in static neighbours; and what must not silence."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from obdb_lib import memory
from obdb_lib.errors import DatasetError
from obdb_lib.frames import FrameStore
from obdb_lib.memory import accepted_places, carried_over, rejected_places, silence, silence_accepted
from obdb_lib.records import Document
from obdb_lib.review import Journal
from obdb_lib.store import Store
from tests.helpers import snapshot_of, task
from tests.twins import ground

SIZE = 256
STONE = (100.0, 100.0, 140.0, 140.0)


def suggestion(name: str, points: tuple[float, ...] = STONE, *, frame: int = 0, **more: Any) -> Document:
    base = {"_id": name, "img_path": f"t/f{frame}.png", "task_name": "t", "frame": frame, "kind": "missing"}
    return {**base, "object_class": "a", "points": list(points), "score": 0.6, **more}


def entry(number: int, name: str, verdict: str = "reject", **more: Any) -> Document:
    when = datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC)
    return {"_id": f"d{number}", "suggestion_id": name, "verdict": verdict, "who": "p", "when": when, **more}


OLD = suggestion("old")


def silent(new: Document, old: Document = OLD, **options: Any) -> bool:
    marked = silence([new], rejected_places([entry(1, old["_id"])], [old]), include_silenced=True, **options)
    assert len(marked) == 1
    assert marked[0]["silenced_by"] in ("", "d1")
    return bool(marked[0]["silenced_by"])


# -- the same frame --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "wanted", "why"),
    [
        (suggestion("n", (103, 101, 141, 140)), True, "nearly the same box"),
        (suggestion("n", (125, 100, 165, 140)), False, "a neighbour that overlaps it by .23"),
        (suggestion("n", img_path="t/other.png", frame=9), False, "the same pixels of another frame"),
        (suggestion("n", object_class="b"), True, "the place was rejected, whatever the model calls it now"),
        (suggestion("n", kind="spurious"), False, "another question"),
        (suggestion("n", run_id="a later model", snapshot_id="other data"), True, "a later model"),
        (suggestion("old"), False, "its own decision: it is decided and not silent"),
    ],
)
def test_a_place_in_its_frame(new: Document, wanted: bool, why: str) -> None:
    assert silent(new) is wanted, why


def test_classes_can_be_asked_for_one_by_one() -> None:
    assert not silent(suggestion("n", object_class="b"), any_class=False)
    assert silent(suggestion("n"), any_class=False)


def test_of_a_swapped_class_only_the_same_class_is_silent() -> None:
    old = suggestion("old", kind="swapped_class")
    assert silent(suggestion("n", kind="swapped_class"), old)
    assert not silent(suggestion("n", kind="swapped_class", object_class="b"), old)


def test_silent_ones_are_left_out_unless_asked_for() -> None:
    new = [suggestion("n1"), suggestion("n2", (10, 10, 40, 40)), suggestion("n3", (101, 101, 140, 141))]
    rejections = rejected_places([entry(1, "old")], [OLD])
    assert [one["_id"] for one in silence(new, rejections)] == ["n2"]
    assert [one["silenced_by"] for one in silence(new, rejections, include_silenced=True)] == ["d1", "", "d1"]
    assert "silenced_by" not in new[0], "what was given is left as it is"
    assert silence([], rejections) == []
    again = silence(silence(new, rejections, include_silenced=True), rejected_places([], []))
    assert [one["_id"] for one in again] == ["n1", "n2", "n3"], "an old mark does not outlive its rejection"


# -- what stands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "places"),
    [
        ([entry(1, "old")], 1),
        ([entry(1, "old", "skip")], 0),
        ([entry(1, "old", "accept")], 0),
        ([entry(1, "old"), entry(2, "old", "undo", undoes="d1")], 0),
        ([entry(1, "old"), entry(2, "old", "accept")], 0),
        ([entry(1, "old", "accept"), entry(2, "old"), entry(3, "old", "undo", undoes="d2")], 0),
        ([entry(1, "old"), entry(2, "later", "accept")], 0),  # somebody asked again and it was accepted
        ([entry(1, "later", "accept"), entry(2, "old")], 1),
        ([entry(1, "old"), entry(2, "far", "accept")], 1),
    ],
)
def test_which_rejections_stand(entries: list[Document], places: int) -> None:
    earlier = [OLD, suggestion("later", (101, 100, 140, 140)), suggestion("far", (0, 0, 30, 30))]
    assert len(rejected_places(entries, earlier)) == places


def test_a_rejection_without_its_suggestion_is_told() -> None:
    found = rejected_places([entry(1, "gone"), entry(2, "gone too", "accept")], [])
    assert found.places == []
    assert [str(one) for one in found.problems] == ["decision d1: its suggestion gone is not at hand"]


# -- accepted places -------------------------------------------------------------------------------------------------


def accepted(*entries: Document, earlier: tuple[Document, ...] = (OLD,)) -> list[Document]:
    return accepted_places(entries, earlier)


@pytest.mark.parametrize(
    ("new", "wanted", "why"),
    [
        (suggestion("n", (103, 101, 141, 140), run_id="a later model"), True, "nearly the same box"),
        (suggestion("n", object_class="b"), True, "whatever the model calls it now"),
        (suggestion("n", (125, 100, 165, 140)), False, "a neighbour that overlaps it by .23"),
        (suggestion("n", frame=1), False, "another frame: the plant is not drawn there"),
        (suggestion("n", kind="spurious"), False, "another question"),
        (suggestion("old"), False, "its own decision: it waits to be sent"),
    ],
)
def test_an_accepted_place_is_not_asked_again(new: Document, wanted: bool, why: str) -> None:
    places = accepted(entry(1, "old", "accept"))
    [marked] = silence_accepted([new], places, include_silenced=True)
    assert marked["silenced_by"] == ("d1" if wanted else ""), why
    assert len(silence_accepted([new], places)) == (not wanted)


def test_two_plants_that_one_model_saw_beside_each_other_are_two() -> None:
    rows = {"1": (100, 100, 140, 140), "2": (105, 100, 145, 140)}
    one, other = (suggestion(name, box, run_id="r", snapshot_id="s") for name, box in rows.items())
    places = accepted_places([entry(1, "1", "accept")], [one])
    assert [found["silenced_by"] for found in silence_accepted([one, other], places)] == ["", ""]
    for later in ({**other, "_id": "3", "run_id": "later"}, {**other, "_id": "3", "snapshot_id": "later"}):
        assert silence_accepted([later], places) == []
        both = accepted_places([entry(1, "1", "accept"), entry(2, "3", "accept")], [one, later])
        assert len(silence_accepted([later], both)) == 1, "accepted itself: it waits to be sent"


def test_the_box_as_it_was_accepted_counts_and_earlier_marks_stay() -> None:
    places = accepted(entry(1, "old", "accept", points=[10, 10, 50, 50]))
    new = [suggestion("n1"), suggestion("n2", (10, 10, 50, 50)), {**suggestion("n3"), "silenced_by": "d0"}]
    assert [one["silenced_by"] for one in silence_accepted(new, places, include_silenced=True)] == ["", "d1", "d0"]
    assert [one["_id"] for one in silence_accepted(new, [])] == ["n1", "n2"]


@pytest.mark.parametrize(
    ("entries", "places"),
    [
        ([entry(1, "old", "accept")], 1),
        ([entry(1, "old", "accept", rule="a rule")], 1),
        ([entry(1, "old", "skip")], 0),
        ([entry(1, "old", "accept"), entry(2, "old", "undo", undoes="d1")], 0),
        ([entry(1, "old", "accept"), entry(2, "later")], 0),  # somebody was asked again and said no
        ([entry(1, "later"), entry(2, "old", "accept")], 1),
        ([entry(1, "move", "accept")], 0),
    ],
)
def test_which_acceptances_stand(entries: list[Document], places: int) -> None:
    earlier = (OLD, suggestion("later", (101, 100, 140, 140)), suggestion("move", kind="bad_location"))
    assert len(accepted(*entries, earlier=earlier)) == places


def test_what_was_accepted_is_carried_over_until_it_is_drawn() -> None:
    record = task(frames=2, boxes={0: [("Fat hen", (10, 10, 40, 40))]})
    snapshot = snapshot_of([record])
    first, second = snapshot.frames["img_path"]
    rows = {
        "drawn by now": suggestion("drawn by now", (11, 10, 40, 40), img_path=first, object_class="Fat hen"),
        "as another class": suggestion("as another class", (11, 10, 40, 40), img_path=first, object_class="Dandelion"),
        "twice": suggestion("twice", (50, 10, 80, 40), img_path=second),
        "twice, later": suggestion("twice, later", (51, 10, 80, 40), img_path=second, object_class="b"),
        "of today": suggestion("of today", (5, 35, 30, 60), img_path=second),
        "of today, before": suggestion("of today, before", (5, 36, 30, 60), img_path=second),
        "elsewhere": suggestion("elsewhere", img_path="other data"),
    }
    entries = [entry(number, name, "accept") for number, name in enumerate(rows, 1)]
    found = carried_over(accepted_places(entries, rows.values()), [rows["of today"]], snapshot)
    assert entries[5]["suggestion_id"] == "of today, before", "decided later than that of today"
    assert sorted(one["_id"] for one in found) == ["as another class", "twice, later"]
    assert carried_over([], [], snapshot) == []


def test_memory_from_the_database(store: Store) -> None:
    old = [{**OLD, "run_id": "r", "snapshot_id": "s"}, suggestion("kept", (10, 10, 40, 40))]
    store.save_suggestions(old)
    journal = Journal(store, who="p")
    journal.decide(old[0], "reject")
    journal.decide(old[1], "skip")
    entries = store.decisions()
    earlier = store.suggestions_by_id(sorted({one["suggestion_id"] for one in entries}))
    rejections = rejected_places(entries, earlier)
    assert [one["_id"] for one in rejections.places] == ["old"]
    assert rejections.problems == []
    new = suggestion("n")
    assert silence([new], rejections) == []
    journal.undo()
    journal.undo()
    assert silence([new], rejected_places(store.decisions(), earlier)) == [{**new, "silenced_by": ""}]
    assert store.suggestions_by_id(["nobody"]) == []


# -- pictures --------------------------------------------------------------------------------------------------------


def write(root: Path, frame: int, pixels: np.ndarray) -> None:
    path = root / "t" / f"f{frame}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """0: the scene; 1: the same, with noise and less light; 2: the camera moved; 3: a plant came up at the place;
    4: the camera moved, and the place is a part of the machine that moves with it."""
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path / "cache"))
    root, dice = tmp_path / "images", np.random.default_rng(0)
    field = ground(4, 2 * SIZE).astype(np.float32)
    still = field[:SIZE, :SIZE]
    write(root, 0, still)
    write(root, 1, still * 0.9 + dice.normal(0, 3, still.shape))
    write(root, 2, field[:SIZE, 60 : 60 + SIZE])
    grown = still.copy()
    leaf = gaussian_filter(dice.normal(size=(40, 40)), 3) * 200
    grown[100:140, 100:140] = np.stack([40 + leaf, 150 + leaf, 60 + leaf], axis=2)
    write(root, 3, grown)
    wheel = field[:SIZE, 30 : 30 + SIZE].copy()
    wheel[85:155, 85:155] = still[85:155, 85:155]
    write(root, 4, wheel)
    return root


@pytest.mark.parametrize(
    ("frame", "wanted", "why"),
    [
        (1, True, "the camera stood still"),
        (2, False, "the camera moved: these pixels show other ground"),
        (3, False, "something came up there since"),
        (4, False, "the place looks the same, but the camera moved"),
    ],
)
def test_neighbouring_frames(scene: Path, frame: int, wanted: bool, why: str) -> None:
    new = suggestion("n", (101, 101, 141, 139), frame=frame)
    assert silent(new, frames=FrameStore([scene]), frames_apart=4) is wanted, why


def test_neighbours_are_near_frames_of_one_task(scene: Path) -> None:
    frames = FrameStore([scene])
    new = suggestion("n", frame=1)
    assert not silent(new, frames=frames, frames_apart=0)
    assert not silent({**new, "task_name": "another"}, frames=frames)
    assert not silent({**new, "frame": 5}, frames=frames)
    assert silent({**new, "frame": 5}, frames=frames, frames_apart=5)
    assert not silent(new), "without pictures nobody can tell"


def test_a_frame_that_cannot_be_read_silences_nothing(scene: Path) -> None:
    (scene / "t" / "f1.png").write_bytes(b"no picture")
    assert not silent(suggestion("n", frame=1), frames=FrameStore([scene]))
    assert not silent(suggestion("n", frame=1, img_path="t/gone.png"), frames=FrameStore([scene]))
    assert silent(suggestion("n"), frames=FrameStore([scene / "nowhere"])), "the same box needs no picture"
    assert not silent(suggestion("n", (100, 100, 140, 118)), frames=FrameStore([scene / "nowhere"]))


def test_crops_that_show_the_same_thing(scene: Path) -> None:
    """The later model draws the same thing at half its size: less overlap, the same picture. A box that is moved onto
    something else overlaps a little, too, and is another thing."""
    pixels = np.full((SIZE, SIZE, 3), 120, dtype=np.float32)
    pixels[:, 90:146] = (210, 40, 40)
    pixels[:, 146:] = (40, 60, 200)
    write(scene, 0, pixels)
    frames = FrameStore([scene])
    smaller, beside = suggestion("n", (106, 106, 133, 133)), suggestion("n", (126, 100, 166, 140))
    options: dict[str, Any] = {"embedder": "colour_histogram", "min_likeness": 0.8}
    assert not silent(smaller), "by overlap alone it is another place"
    assert silent(smaller, frames=frames, **options)
    assert not silent(beside, frames=frames, **options)
    assert silent(beside, frames=frames, embedder="colour_histogram", min_likeness=-1)
    assert not silent(smaller, frames=frames, near_iou=0.48, **options)
    assert not silent(suggestion("n", (180, 180, 220, 220)), frames=frames, min_likeness=-1), "likeness needs overlap"


def test_pictures_are_read_only_where_they_matter(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("read a picture for nothing")

    monkeypatch.setattr(memory, "embed_crops", read)
    monkeypatch.setattr(memory, "same_places", lambda here, *_, **__: np.zeros(len(here), bool) if not here else read())
    assert silent(suggestion("n"), frames=FrameStore([scene]))
    assert not silent(suggestion("n", (0, 0, 30, 30)), frames=FrameStore([scene]))


# -- size and input --------------------------------------------------------------------------------------------------


def test_many_against_many_are_those_of_a_loop() -> None:
    dice = np.random.default_rng(0)

    def some(count: int, name: str) -> list[Document]:
        corners = dice.uniform(0, 400, (count, 2))
        boxes = np.hstack([corners, corners + dice.uniform(20, 60, (count, 2))]).round(2)
        frame = dice.integers(0, 200, count)
        return [suggestion(f"{name}{i}", tuple(boxes[i]), frame=int(frame[i])) for i in range(count)]

    new, old = some(10_000, "n"), some(10_000, "o")
    rejections = rejected_places([entry(1, one["_id"]) for one in old], old)
    marked = silence(new, rejections, include_silenced=True)
    by_frame: dict[str, list[list[float]]] = {}
    for one in old:
        by_frame.setdefault(one["img_path"], []).append(one["points"])
    for one in marked[::50]:
        box, others = np.array(one["points"]), np.array(by_frame.get(one["img_path"], np.empty((0, 4))))
        sides = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None)
        common = sides.prod(axis=1)
        union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - common
        assert bool(one["silenced_by"]) == bool((common / union >= 0.5).any())
    assert sum(bool(one["silenced_by"]) for one in marked) > 500


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"near_iou": 0.6}, "at most min_iou"),
        ({"near_iou": 0}, "above 0"),
        ({"frames_apart": -1}, "frames_apart must be 0"),
        ({"min_likeness": 2}, "min_likeness -1..1"),
    ],
)
def test_wrong_thresholds_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(DatasetError, match=word):
        silence([OLD], rejected_places([], []), **options)


def test_an_unknown_embedder_is_named(scene: Path) -> None:
    with pytest.raises(DatasetError, match="did you mean 'mobilenet_v2'"):
        silent(suggestion("n", (100, 100, 140, 118)), frames=FrameStore([scene]), embedder="mobilnet_v2")
