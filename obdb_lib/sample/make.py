"""Draw the sample into a folder, once: what is there already is kept, what is missing is completed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from obdb_lib.cache import atomic_writer, read_json, write_json
from obdb_lib.errors import CacheError, DatasetError
from obdb_lib.progress import Progress, Task, track
from obdb_lib.records import Document, TaskRecord, make_annotation, make_task
from obdb_lib.sample.camera import Shot, film, strip_size
from obdb_lib.sample.plan import DEFAULT_SIZE, Recording, SampleSize, plan_recordings
from obdb_lib.sample.species import CLASSES
from obdb_lib.sample.strip import make_strip

NOTE_NAME = "sample.json"
VERSION = 2
"""Raise it when the same seed draws another field, so that old samples are drawn again."""
JPEG_QUALITY = 90
MAX_HIDDEN_SHARE = 0.5
RUN_SHARE, RUN_LENGTHS = 0.5, (2, 5)
"""Share of the hidden boxes that are one plant missed over consecutive frames, and how many frames (from, to)."""
CREATED, UPDATED = "2022-06-20T08:00:00.000000Z", "2022-06-27T15:30:00.000000Z"


@dataclass(frozen=True)
class Sample:
    """A synthetic field.

    Attributes:
        root: image root; ``root / img_path`` is a frame's file.
        tasks: tasks with their annotations, without the hidden ones.
        hidden: annotation documents left out on purpose, the truth behind "missing" boxes.
        seed: what it was drawn from.
    """

    root: Path
    tasks: list[TaskRecord]
    hidden: list[Document]
    seed: int


def make_sample(
    folder: Path | str,
    *,
    seed: int = 7,
    size: SampleSize = DEFAULT_SIZE,
    hidden_share: float = 0.08,
    progress: Progress | None = None,
) -> Sample:
    """A field of crop rows and weeds as a tractor's cameras film it: JPEG frames in ``folder`` and their annotations.

    The same seed and size give the same images and documents. A complete sample in ``folder`` is reused at once; a
    half-written one is completed; images of another seed or size are replaced.

    Args:
        hidden_share: share of all boxes left out of the annotations, 0..0.5; it does not change the images.

    Raises:
        DatasetError: seed or share out of range.
        CacheError: the folder cannot be written.
    """
    if seed < 0:
        raise DatasetError(f"the sample's seed must be 0 or more; got {seed}")
    if not 0 <= hidden_share <= MAX_HIDDEN_SHARE:
        raise DatasetError(f"hidden_share must lie in 0..{MAX_HIDDEN_SHARE}; got {hidden_share}")
    root = Path(folder).resolve()
    recordings = plan_recordings(seed, size)
    key = {"version": VERSION, "seed": seed, "size": asdict(size)}
    note = _read_note(root / NOTE_NAME, key)
    with track(progress, "draw the sample field", size.tasks * size.frames_per_task) as task:
        for recording in recordings:
            if _is_whole(root, recording, note["tasks"].get(recording.task_name), size):
                task.advance(size.frames_per_task)
                continue
            # Said before the first image changes, so that a stop in between never looks complete.
            note["tasks"].pop(recording.task_name, None)
            write_json(root / NOTE_NAME, note)
            note["tasks"][recording.task_name] = _film_task(root, recording, seed, size, task)
            write_json(root / NOTE_NAME, note)
    return _documents(root, recordings, note["tasks"], seed, size, hidden_share)


def _read_note(path: Path, key: dict[str, Any]) -> dict[str, Any]:
    """The note of the same sample, or a fresh one when there is none, it is broken or it speaks of another sample."""
    fresh: dict[str, Any] = {**key, "tasks": {}}
    try:
        note = read_json(path)
    except (CacheError, OSError):
        return fresh
    same = isinstance(note, dict) and {name: note.get(name) for name in key} == key
    return note if same and isinstance(note.get("tasks"), dict) else fresh


def _is_whole(root: Path, recording: Recording, entry: Document | None, size: SampleSize) -> bool:
    """Whether every image of a task is there with the size in bytes that was noted."""
    if not isinstance(entry, dict):
        return False
    if any(len(entry.get(part, ())) != size.frames_per_task for part in ("bytes", "plants")):
        return False
    for index, expected in enumerate(entry["bytes"]):
        try:
            if (root / recording.img_path(index)).stat().st_size != expected:
                return False
        except OSError:
            return False
    return True


def _film_task(root: Path, recording: Recording, seed: int, size: SampleSize, task: Task) -> Document:
    """Draw and write one task's images; returns its entry in the note: bytes and plants of every frame."""
    entry: Document = {"bytes": [], "plants": []}
    for index, shot in enumerate(_shots(recording, seed, size)):
        buffer = io.BytesIO()
        Image.fromarray(shot.image).save(buffer, "JPEG", quality=JPEG_QUALITY)
        data, path = buffer.getvalue(), root / recording.img_path(index)
        if not path.is_file() or path.read_bytes() != data:
            with atomic_writer(path) as file:
                file.write(data)
        entry["bytes"].append(len(data))
        entry["plants"].append([[p.number, p.object_class, *p.box, p.occluded] for p in shot.plants])
        task.advance(video=recording.video)
    return entry


def _shots(recording: Recording, seed: int, size: SampleSize) -> Iterator[Shot]:
    """The frames of one task."""
    world, lens = (np.random.default_rng([seed, recording.number, part]) for part in (0, 1))
    long, wide = strip_size(recording.camera, size.frames_per_task, size.width, size.height)
    strip = make_strip(
        world,
        long,
        wide,
        scale=size.plant_scale,
        growth=recording.session.growth,
        gaps=recording.gaps,
        weediness=recording.weediness,
        ground=recording.session.ground,
        light=recording.session.light,
    )
    yield from film(lens, strip, recording.camera, size.frames_per_task, size.width, size.height)


def _documents(
    root: Path,
    recordings: list[Recording],
    entries: dict[str, Document],
    seed: int,
    size: SampleSize,
    hidden_share: float,
) -> Sample:
    """Tasks and hidden annotations from the noted plants."""
    boxes = [
        (recording.number, index, plant)
        for recording in recordings
        for index, plants in enumerate(entries[recording.task_name]["plants"])
        for plant in plants
    ]
    hidden_rows = _choose_hidden([(task, frame, plant[0]) for task, frame, plant in boxes], seed, hidden_share)
    tasks = []
    for recording in recordings:
        frames = [(recording.img_path(i), size.width, size.height) for i in range(size.frames_per_task)]
        tasks.append(make_task(recording.task_name, CLASSES, frames, created=CREATED, updated=UPDATED))
    hidden: list[Document] = []
    for row, (number, frame, (_, object_class, x1, y1, x2, y2, occluded)) in enumerate(boxes):
        document = make_annotation(tasks[number], frame, object_class, (x1, y1, x2, y2), occluded=occluded)
        (hidden if row in hidden_rows else tasks[number].annotations).append(document)
    return Sample(root, tasks, hidden, seed)


def _choose_hidden(boxes: list[tuple[int, int, int]], seed: int, share: float) -> set[int]:
    """Rows of ``boxes`` (task, frame, plant) to leave out: a plant over some frames, and single boxes.

    A person who misses a plant often misses it again in the next frame; another slip concerns one frame only.
    """
    rng = np.random.default_rng([seed, 1_000_033])
    wanted = round(share * len(boxes))
    tracks: dict[tuple[int, int], list[int]] = {}
    for row, (task, _, plant) in enumerate(boxes):
        tracks.setdefault((task, plant), []).append(row)
    long_tracks = [rows for rows in tracks.values() if len(rows) >= RUN_LENGTHS[0]]
    chosen: set[int] = set()
    for i in rng.permutation(len(long_tracks)):
        rows = long_tracks[i]
        length = int(rng.integers(RUN_LENGTHS[0], min(RUN_LENGTHS[1], len(rows)) + 1))
        if len(chosen) + length > RUN_SHARE * wanted:
            break
        start = int(rng.integers(0, len(rows) - length + 1))
        chosen.update(rows[start : start + length])
    for row in rng.permutation(len(boxes)):
        if len(chosen) >= wanted:
            break
        chosen.add(int(row))
    return chosen
