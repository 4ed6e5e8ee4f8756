"""A folder of CVAT XML files as CVAT tasks with their frames and annotations."""

from __future__ import annotations

from pathlib import Path

from obdb_lib.cvat.record_plan import RecordPlan, plan_records
from obdb_lib.errors import FormatError
from obdb_lib.formats import XML_FILES, cvat_xml
from obdb_lib.formats._shared import clean
from obdb_lib.frames import FrameStore
from obdb_lib.records import ReadResult


def read_xml_folder(folder: Path) -> ReadResult:
    """Checked tasks of all XML files in a folder (or of one file), by name of the files.

    Raises:
        FormatError: no XML file there, or one that cannot be read.
    """
    try:
        files = [folder] if folder.is_file() else sorted(p for p in folder.iterdir() if XML_FILES.search(p.name))
    except OSError as error:
        raise FormatError(
            f"{folder} cannot be listed ({error.strerror or error}); -x names a folder of CVAT XML files"
        ) from error
    if not files:
        raise FormatError(f"{folder} holds no XML file; export tasks from CVAT as 'CVAT for images 1.1' into it")
    every = ReadResult()
    for file in files:
        found = cvat_xml.read(file, image_root=folder if folder.is_dir() else folder.parent)
        every.tasks += found.tasks
        every.problems += found.problems
    return clean(every)


def plan_xml_upload(folder: Path, frames: FrameStore) -> RecordPlan:
    """Plan the upload of a folder of XML files (``record_upload.upload_records`` sends it).

    Raises:
        FormatError: as ``read_xml_folder``.
        CvatError: as ``plan_records``; nothing was sent.
    """
    found = read_xml_folder(folder)
    return plan_records(found.tasks, frames, problems=found.problems)
