"""Ground truth and XML files to CVAT: ``-g``, ``--upload_pkl`` and ``-x``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from obdb_lib import paths
from obdb_lib.annotate.desk import DONE, DRY_RUN, Desk
from obdb_lib.annotate.finding import FRAMES_FILE
from obdb_lib.annotate.sources import Source
from obdb_lib.cvat.push import StoreJournal
from obdb_lib.cvat.record_plan import RecordPlan, plan_records
from obdb_lib.cvat.record_upload import upload_records
from obdb_lib.cvat.xml_upload import plan_xml_upload
from obdb_lib.errors import DatasetError
from obdb_lib.formats.frame_lists import read_list
from obdb_lib.frames import FrameStore, frames_below


def listed_images(folder: Path) -> list[str]:
    """Images that a folder stands for: those its ``frames.txt`` lists (as ``auto_annotate -p`` leaves it), else the
    pictures in it.

    Raises:
        DatasetError: no such folder.
        FrameError: neither list nor pictures.
    """
    if not folder.is_dir():
        raise DatasetError(f"-g {folder} is no folder; it names one that auto_annotate.py -p made, or one with images")
    listing = folder / FRAMES_FILE
    return read_list(listing) if listing.is_file() else frames_below(folder)


def upload_ground_truth(desk: Desk, source: Source, *, labels: Sequence[str] = ()) -> int:
    """The annotated tasks of a source as CVAT tasks of their names."""
    frames = source.frames(desk.store, desk.settings.dataset_dir, "/weed_data")
    plan = plan_records(source.records, frames, labels=labels, problems=source.problems)
    return _upload(desk, plan, source.name)


def upload_xml(desk: Desk, folder: Path) -> int:
    """The CVAT XML files of a folder as CVAT tasks."""
    near = folder if folder.is_dir() else folder.parent
    more = [paths.locate(one) for one in (desk.settings.dataset_dir, "/weed_data") if one]
    frames = FrameStore([near, *desk.store.image_roots(), *more])
    return _upload(desk, plan_xml_upload(folder, frames), str(folder))


def _upload(desk: Desk, plan: RecordPlan, name: str) -> int:
    desk.client_if_named()
    desk.say(f"{name}: {plan.summary()}\n{plan.table().to_string(index=False)}")
    if not plan.tasks:
        return DONE
    if not desk.agreed("Make these tasks on CVAT"):
        return DRY_RUN
    done = upload_records(
        plan,
        desk.client(),
        journal=StoreJournal(desk.store),
        confirm=True,
        share=desk.share,
        progress=desk.progress,
    )
    desk.say(f"{done.summary()}\n{done.table()[['task_id', 'name', 'url']].to_string(index=False)}")
    return DONE
