"""The synthetic field: repeatable, honest boxes, overlapping frames, enough of each class to split by video."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from obdb_lib.errors import CacheError, DatasetError
from obdb_lib.naming import frame_number, parse_recording
from obdb_lib.progress import Task
from obdb_lib.records import Document, check_task
from obdb_lib.sample import CLASSES, DEFAULT_SIZE, TINY_SIZE, Sample, SampleSize, make_sample
from obdb_lib.sample import make as make_module
from obdb_lib.sample.camera import _frame_to_strip, _strip_area, film, strip_size
from obdb_lib.sample.make import NOTE_NAME, _choose_hidden
from obdb_lib.sample.plan import CAMERAS, SESSIONS, plan_recordings
from obdb_lib.sample.species import SPECIES, Species, draw_plant
from obdb_lib.sample.strip import Strip, make_strip

SMALL = SampleSize(tasks=2, frames_per_task=4, width=320, height=180)


class StoppedError(Exception):
    """Stands for a person who interrupts the kernel."""


class StopAfter:
    """Progress that counts images and interrupts after some."""

    def __init__(self, images: int | None = None) -> None:
        self.images, self.done, self.total = images, 0, 0

    def start(self, title: str, total: int | None) -> Task:
        self.total = total or 0
        return self

    def advance(self, steps: int = 1, **info: object) -> None:
        self.done += steps
        if self.images is not None and self.done >= self.images:
            raise StoppedError

    def finish(self, task: Task) -> None:
        return


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("tiny"), size=TINY_SIZE)


def image_bytes(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.jpg"))}


def all_boxes(sample: Sample) -> list[Document]:
    return [annotation for task in sample.tasks for annotation in task.annotations] + sample.hidden


def small_strip(seed: int = 3) -> tuple[Strip, int, int]:
    """A strip for camera 1R, for frames of 480 x 270."""
    long, wide = strip_size(CAMERAS[1], 6, 480, 270)
    strip = make_strip(
        np.random.default_rng(seed),
        long,
        wide,
        scale=0.5,
        growth=1.2,
        gaps=0.1,
        weediness=dict.fromkeys(CLASSES, 0.5),
        ground=SESSIONS[0].ground,
        light=SESSIONS[0].light,
    )
    return strip, 480, 270


def test_same_seed_gives_same_images_and_documents(tmp_path: Path) -> None:
    first = make_sample(tmp_path / "a", seed=5, size=SMALL)
    second = make_sample(tmp_path / "b", seed=5, size=SMALL)
    assert image_bytes(first.root) == image_bytes(second.root)
    assert first.tasks == second.tasks
    assert first.hidden == second.hidden
    assert json.dumps([task.task for task in first.tasks]) == json.dumps([task.task for task in second.tasks])


def test_another_seed_gives_another_field(tmp_path: Path) -> None:
    first = make_sample(tmp_path / "a", seed=5, size=SMALL)
    second = make_sample(tmp_path / "b", seed=6, size=SMALL)
    one, other = image_bytes(first.root), image_bytes(second.root)
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)
    assert all_boxes(first) != all_boxes(second)


def test_names_are_upstreams(tiny: Sample) -> None:
    assert len(tiny.tasks) == TINY_SIZE.tasks
    recordings = set()
    for task in tiny.tasks:
        for frame in task.meta["frames"]:
            by_path, by_task = parse_recording(frame["name"]), parse_recording("", task.name)
            assert by_path == by_task
            recordings.add(by_path)
            with Image.open(tiny.root / frame["name"]) as image:
                assert image.size == (frame["width"], frame["height"]) == (TINY_SIZE.width, TINY_SIZE.height)
        numbers = [frame_number(frame["name"]) or 0 for frame in task.meta["frames"]]
        assert set(np.diff(numbers)) == {5}
    assert len({r.video for r in recordings}) == TINY_SIZE.tasks
    assert len({r.session for r in recordings}) == len({r.camera for r in recordings}) == 3


@pytest.mark.parametrize("tasks", [6, 9, 30])
def test_every_recording_has_a_name_of_its_own(tasks: int) -> None:
    recordings = plan_recordings(7, replace(DEFAULT_SIZE, tasks=tasks))
    assert len({r.task_name for r in recordings}) == len({r.img_path(0) for r in recordings}) == tasks


def test_documents_hold_and_lie_in_the_frames(tiny: Sample) -> None:
    for task in tiny.tasks:
        checked, problems = check_task(task)
        assert problems == []
        assert checked.annotations == task.annotations
        assert tuple(label["name"] for label in task.task["labels"]) == CLASSES
    for box in all_boxes(tiny):
        x1, y1, x2, y2 = box["points"]
        assert 0 <= x1 < x2 <= box["img_width"]
        assert 0 <= y1 < y2 <= box["img_height"]
        assert CLASSES[box["label_id"] - 1] == box["object_class"]
    paths = {frame["name"] for task in tiny.tasks for frame in task.meta["frames"]}
    assert {box["img_path"] for box in tiny.hidden} <= paths


def test_boxes_touch_the_plants_on_all_sides(tiny: Sample) -> None:
    """Green must be found just inside every side of a whole plant's box, and hardly any just outside of lone ones."""
    inside, outside = [], []
    boxes = all_boxes(tiny)
    for path in sorted({box["img_path"] for box in boxes}):
        rgb = np.asarray(Image.open(tiny.root / path).convert("RGB")).astype(float)
        green = np.pad(2 * rgb[..., 1] - rgb[..., 0] - rgb[..., 2] > 22, 8)
        here = [box["points"] for box in boxes if box["img_path"] == path]
        for x1, y1, x2, y2 in (np.array(points).astype(int) for points in here):
            if min(x1, y1) < 6 or x2 > TINY_SIZE.width - 6 or y2 > TINY_SIZE.height - 6:
                continue
            others = [o for o in here if o[0] < x2 + 8 and o[2] > x1 - 8 and o[1] < y2 + 8 and o[3] > y1 - 8]
            if len(others) > 1:
                continue
            x1, y1, x2, y2 = x1 + 8, y1 + 8, x2 + 8, y2 + 8
            part = green[y1:y2, x1:x2]
            inside.append([part[:5].any(), part[-5:].any(), part[:, :5].any(), part[:, -5:].any()])
            ring = green[y1 - 5 : y2 + 5, x1 - 5 : x2 + 5].copy()
            ring[3:-3, 3:-3] = False
            outside.append(ring.sum() / part.sum() if part.any() else 1.0)
    assert len(inside) > 40
    assert np.mean(inside) > 0.9
    assert np.median(outside) < 0.02


def test_boxes_are_exact_for_drawn_pixels() -> None:
    """Filmed without tilt, roll or sway, a box must equal the plant's own pixels in the strip."""
    strip, width, height = small_strip()
    camera = replace(CAMERAS[1], tilt=0.0)
    still = np.random.default_rng(0)
    for shot in film(still, strip, camera, 6, width, height):
        assert shot.image.shape == (height, width, 3)
        assert shot.image.dtype == np.uint8
        for plant in shot.plants:
            left, top, right, bottom = plant.box
            rows, columns = np.nonzero(strip.ids == plant.number)
            cut = left == 0 or top == 0 or right == width or bottom == height
            if not cut:
                assert abs((right - left) - (np.ptp(columns) + 1)) <= 3
                assert abs((bottom - top) - (np.ptp(rows) + 1)) <= 3
            assert right - left <= np.ptp(columns) + 4
            assert bottom - top <= np.ptp(rows) + 4


def test_slivers_at_the_border_get_no_box_and_large_parts_do() -> None:
    strip, width, height = small_strip()
    areas = {plant.number: plant.area for plant in strip.plants}
    smallest = 1.0
    for shot in film(np.random.default_rng(0), strip, replace(CAMERAS[1], tilt=0.0), 6, width, height):
        for plant in shot.plants:
            _, top, _, bottom = plant.box
            ys = np.nonzero(strip.ids == plant.number)[0]
            assert areas[plant.number] >= len(ys)
            smallest = min(smallest, (bottom - top) / (np.ptp(ys) + 1))
    assert 0.1 < smallest < 0.9


def test_occluded_plants_are_those_that_others_cover() -> None:
    strip, width, height = small_strip()
    covered = {plant.number: plant.covered for plant in strip.plants}
    for shot in film(np.random.default_rng(0), strip, CAMERAS[1], 6, width, height):
        for plant in shot.plants:
            assert plant.occluded == (covered[plant.number] > 0.06)
    assert all(0 <= share <= 1 for share in covered.values())


def test_frame_area_matches_the_homography() -> None:
    """The Jacobian must agree with the area of a mapped unit square."""
    matrix = _frame_to_strip((500.0, 900.0), 0.01, 0.09, 960, 540)
    for x, y in ((10.0, 10.0), (480.0, 270.0), (900.0, 530.0)):
        corners = np.array([[x - 0.5, y - 0.5], [x + 0.5, y - 0.5], [x + 0.5, y + 0.5], [x - 0.5, y + 0.5]])
        mapped = np.c_[corners, np.ones(4)] @ matrix.T
        xs, ys = (mapped[:, :2] / mapped[:, 2:]).T
        area = 0.5 * abs(np.dot(xs, np.roll(ys, -1)) - np.dot(ys, np.roll(xs, -1)))
        assert _strip_area(matrix, x, y) == pytest.approx(area, rel=1e-3)
    middle = matrix @ [480, 270, 1]
    assert middle[:2] / middle[2] == pytest.approx([500, 900])


def test_strip_is_large_enough_for_every_frame() -> None:
    """No frame may look over the strip's edge: the corners of the outermost frames lie inside."""
    for camera in CAMERAS:
        long, wide = strip_size(camera, 3, 480, 270)
        blank = Strip(np.ones((long, wide, 3), np.float32), np.zeros((long, wide), np.int32), [])
        bright = replace(camera, balance=(1, 1, 1), vignette=0, noise=0)
        for seed in range(8):
            for shot in film(np.random.default_rng(seed), blank, bright, 3, 480, 270):
                assert shot.image.min() > 200


def best_travel(before: np.ndarray, after: np.ndarray) -> tuple[int, float]:
    """Rows by which ``before`` must move down to match ``after`` best, and the correlation of the overlap."""
    best = (0, -1.0)
    for down in range(0, int(0.7 * len(before))):
        for aside in range(-4, 5):
            one = before[: len(before) - down, 4:-4]
            other = np.roll(after, aside, axis=1)[down:, 4:-4]
            score = float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
            best = max(best, (down, score), key=lambda found: found[1])
    return best


def test_consecutive_frames_overlap(tiny: Sample) -> None:
    """Frame after frame the world moves down by about a quarter of the height, and what is in both looks alike."""
    for task in tiny.tasks:
        frames = []
        for place in task.meta["frames"][2:4]:
            image = np.asarray(Image.open(tiny.root / place["name"]).convert("L").resize((160, 90))).astype(float)
            frames.append(ndimage.gaussian_filter(image, 0.7) - ndimage.gaussian_filter(image, 6))
        travel, alike = best_travel(*frames)
        assert 0.17 * 90 < travel < 0.31 * 90, task.name
        assert alike > 0.4, task.name


def test_hidden_share(tiny: Sample) -> None:
    total = len(all_boxes(tiny))
    assert total > 150
    assert 0.07 <= len(tiny.hidden) / total <= 0.09
    kept = {(a["img_path"], *a["points"]) for task in tiny.tasks for a in task.annotations}
    assert not kept & {(a["img_path"], *a["points"]) for a in tiny.hidden}


def test_hidden_boxes_are_runs_and_singles_both() -> None:
    boxes = [(task, frame, plant) for task in range(4) for plant in range(30) for frame in range(plant, plant + 5)]
    chosen = _choose_hidden(boxes, 7, 0.08)
    assert len(chosen) == round(0.08 * len(boxes))
    assert chosen == _choose_hidden(boxes, 7, 0.08) != _choose_hidden(boxes, 8, 0.08)
    frames: dict[tuple[int, int], list[int]] = {}
    for row in chosen:
        task, frame, plant = boxes[row]
        frames.setdefault((task, plant), []).append(frame)
    runs = [sorted(numbers) for numbers in frames.values() if len(numbers) > 1]
    assert len(runs) >= 3
    assert any(len(numbers) == 1 for numbers in frames.values())
    assert _choose_hidden(boxes, 7, 0.0) == _choose_hidden([], 7, 0.3) == set()


def test_hidden_share_changes_no_image(tiny: Sample) -> None:
    before = image_bytes(tiny.root)
    shown = make_sample(tiny.root, size=TINY_SIZE, hidden_share=0.0)
    assert image_bytes(tiny.root) == before
    assert shown.hidden == []
    assert sum(len(t.annotations) for t in shown.tasks) == len(all_boxes(tiny))


def test_classes_are_uneven_but_in_several_videos_and_sessions(tiny: Sample) -> None:
    videos: dict[str, set[str]] = {name: set() for name in CLASSES}
    sessions: dict[str, set[str]] = {name: set() for name in CLASSES}
    counts: dict[str, Counter[str]] = {name: Counter() for name in CLASSES}
    for box in all_boxes(tiny):
        recording = parse_recording(box["img_path"])
        videos[box["object_class"]].add(recording.key)
        sessions[box["object_class"]].add(recording.session)
        counts[box["object_class"]][box["task_name"]] += 1
    assert sum(len(keys) >= 3 for keys in videos.values()) >= 4
    assert all(len(keys) >= 2 for keys in sessions.values())
    uneven = [max(c.values()) / (sum(c.values()) / TINY_SIZE.tasks) for c in counts.values()]
    assert max(uneven) > 1.5


def test_half_written_sample_is_completed(tmp_path: Path) -> None:
    whole = make_sample(tmp_path / "whole", size=SMALL)
    part = tmp_path / "part"
    with pytest.raises(StoppedError):
        make_sample(part, size=SMALL, progress=StopAfter(images=6))
    before = {path: path.stat().st_mtime_ns for path in part.rglob("*.jpg")}
    assert len(before) == 6
    assert not list(part.rglob("*.part"))
    completed = make_sample(part, size=SMALL)
    assert image_bytes(part) == image_bytes(whole.root)
    assert (completed.tasks, completed.hidden) == (whole.tasks, whole.hidden)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


def test_complete_sample_is_reused_and_damage_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_sample(tmp_path, size=SMALL)
    progress = StopAfter()
    with monkeypatch.context() as patch:
        patch.setattr(make_module, "_shots", lambda *_: pytest.fail("drawn again"))
        again = make_sample(tmp_path, size=SMALL, progress=progress)
    assert (again.tasks, again.hidden) == (first.tasks, first.hidden)
    assert progress.done == progress.total == SMALL.tasks * SMALL.frames_per_task
    images = image_bytes(tmp_path)
    lost, torn = sorted(tmp_path.rglob("*.jpg"))[1:3]
    lost.unlink()
    torn.write_bytes(torn.read_bytes()[:500])
    make_sample(tmp_path, size=SMALL)
    assert image_bytes(tmp_path) == images


@pytest.mark.parametrize("broken", ["{", "[]", '{"version": 1, "seed": 7, "tasks": 3}', "\xff"])
def test_broken_note_is_written_anew(tmp_path: Path, broken: str) -> None:
    size = replace(SMALL, tasks=1, frames_per_task=1)
    first = make_sample(tmp_path, size=size)
    (tmp_path / NOTE_NAME).write_bytes(broken.encode("latin-1"))
    assert make_sample(tmp_path, size=size).tasks == first.tasks
    assert json.loads((tmp_path / NOTE_NAME).read_text())["seed"] == 7


def test_folder_of_another_seed_is_replaced(tmp_path: Path) -> None:
    size = replace(SMALL, tasks=1)
    fresh = image_bytes(make_sample(tmp_path / "fresh", seed=2, size=size).root)
    make_sample(tmp_path / "used", seed=1, size=size)
    with pytest.raises(StoppedError):
        make_sample(tmp_path / "used", seed=2, size=size, progress=StopAfter(images=1))
    make_sample(tmp_path / "used", seed=1, size=size)
    make_sample(tmp_path / "used", seed=2, size=size)
    assert image_bytes(tmp_path / "used") == fresh


@pytest.mark.parametrize("species", SPECIES, ids=lambda species: species.name)
def test_plants_of_a_species_differ_and_fill_their_reach(species: Species) -> None:
    mottle = np.zeros((300, 300), np.float32)
    plants = [draw_plant(species, 60, np.random.default_rng(i), (0.6, -0.8), mottle) for i in (1, 2)]
    assert not np.array_equal(plants[0].alpha, plants[1].alpha)
    for plant in plants:
        assert plant.alpha.min() >= 0
        assert plant.alpha.max() <= 1
        assert (plant.colour >= -1e-6).all()
        part, left, top = plant.trimmed()
        assert 60 < max(part.alpha.shape) < 150
        assert min(left, top) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"seed": -1}, "seed"), ({"hidden_share": 0.9}, "0.9"), ({"hidden_share": -0.1}, "hidden_share")],
)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        make_sample(tmp_path, size=SMALL, **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", [{"tasks": 0}, {"frames_per_task": 0}, {"width": 20}, {"height": 20}])
def test_bad_sizes_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(DatasetError, match="at least"):
        replace(TINY_SIZE, **change)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot write"):
        make_sample(tmp_path / "file" / "sample", size=SMALL)
