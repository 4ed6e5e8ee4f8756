"""Where an image lies in a folder that ``formats.write`` wrote."""

from __future__ import annotations

from collections.abc import Sequence

from obdb_lib.formats import voc, yolo
from obdb_lib.records import TaskRecord

WITH_IMAGES = ("voc", "yolo")
"""Formats that keep images beside annotations."""


def image_files(records: Sequence[TaskRecord], format_name: str) -> dict[str, str]:
    """img_path -> file relative to the folder, for ``yolo`` and ``voc``; {} for formats without images."""
    if format_name == "yolo":
        return {name: f"{yolo.IMAGE_FOLDER}/{file}" for name, file in yolo.files_of(records).items()}
    if format_name == "voc":
        return {name: f"{voc.IMAGE_FOLDER}/{file}" for name, file in voc.files_of(records).items()}
    return {}
