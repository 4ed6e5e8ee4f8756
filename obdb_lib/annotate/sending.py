"""Detect, keep what no annotation explains, make CVAT tasks of it: ``-p``, ``-r`` and ``-f``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from obdb_lib.annotate.desk import DONE, DRY_RUN, Desk
from obdb_lib.annotate.finding import Model, find_missing, plan_auto, write_found
from obdb_lib.annotate.sources import Source
from obdb_lib.boxes import DEFAULT_MATCH_IOU
from obdb_lib.cvat.collect import cvat_address
from obdb_lib.cvat.push import StoreJournal, send
from obdb_lib.errors import DatasetError
from obdb_lib.records import import_report

SHOWN = 5
"""Problems that are told one by one; of more their number."""


@dataclass(frozen=True)
class Look:
    """How to look: scores from ``threshold`` (0..1), explained from an overlap of ``min_iou`` (above 0, to 1)."""

    model: Model
    threshold: float
    min_iou: float = DEFAULT_MATCH_IOU
    labels: Sequence[str] = ()


def auto_annotate(desk: Desk, source: Source, look: Look) -> int:
    """Find missing boxes in the source's frames and push them.

    Raises:
        ObdbError: the detector, the images or CVAT cannot be used; run it again, it goes on where it stopped.
    """
    client = desk.client_if_named()
    now = datetime.now(UTC)
    snapshot = source.snapshot()
    if source.problems:
        desk.say(f"{len(source.problems)} problems in {source.name}:\n{import_report(source.problems, limit=SHOWN)}")
    desk.say(f"{source.name}: {len(snapshot.frames)} frames, {len(snapshot.annotations)} annotations")
    frames = source.frames(desk.store, desk.settings.dataset_dir, "/weed_data")
    missing = find_missing(
        look.model,
        snapshot,
        frames,
        threshold=look.threshold,
        min_iou=look.min_iou,
        seed=desk.settings.seed,
        progress=desk.progress,
    )
    judged = len(snapshot.frames) - len(missing.unreadable)
    if not judged:
        raise DatasetError(f"not one of the {len(snapshot.frames)} frames can be read: {_first(missing.unreadable)}")
    if missing.unreadable:
        desk.say(f"{len(missing.unreadable)} frames cannot be read and were not judged: {_first(missing.unreadable)}")
    counts = Counter(str(one["object_class"]) for one in missing.suggestions)
    told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
    desk.say(f"boxes of {look.threshold:g} or more that no annotation explains, on {judged} frames judged: {told}")
    plan = plan_auto(
        missing,
        frames,
        desk.store,
        rule=f"auto_annotate: score of {look.threshold:g} or more",
        server=client.url if client else cvat_address(),
        labels=look.labels,
        now=now,
    )
    if not missing.suggestions:
        return DONE
    folder = write_found(missing, now=now)
    desk.say(f"Found boxes and their images: {folder}\n{plan.summary().splitlines()[0]}")
    if plan.problems:
        desk.say(import_report(plan.problems, limit=SHOWN))
    if not plan.tasks:
        desk.say("Nothing is left to send: the boxes were sent before, or set aside.")
        return DONE
    desk.say(plan.table().to_string(index=False))
    if not desk.agreed(f"Send these {plan.boxes} boxes to CVAT"):
        return DRY_RUN
    desk.store.save_suggestions(missing.suggestions)
    journal = StoreJournal(desk.store)
    done = send(plan, desk.client(), journal=journal, confirm=True, share=desk.share, progress=desk.progress)
    desk.say(f"{done.summary()}\n{done.table()[['task_id', 'sent', 'name', 'url']].to_string(index=False)}")
    return DONE


def _first(unreadable: Mapping[str, str]) -> str:
    return next(iter(unreadable.values()))
