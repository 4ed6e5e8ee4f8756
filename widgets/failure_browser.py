"""The frames where a detector does worst, annotations beside detections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

import ipywidgets
import pandas as pd
from PIL import Image

from obdb_lib.errors import DatasetError
from widgets._base import CallbackErrors
from widgets.frame_view import FrameBrowser, Layers, Pixels, frame_sheet

LIST_ROWS = 8


def failure_notes(errors: pd.DataFrame) -> dict[str, str]:
    """img_path -> what is wrong there, in words.

    Args:
        errors: index img_path; columns missed, extra, matched and, where there is one, confused (boxes).

    Raises:
        DatasetError: a column is missing.
    """
    missing = [name for name in ("missed", "extra", "matched") if name not in errors]
    if missing:
        raise DatasetError(f"the table of failures lacks {', '.join(missing)}; make it with detections.frame_errors")
    notes = {}
    for img_path, row in errors.iterrows():
        confused = int(row.get("confused", 0))
        parts = [(int(row["missed"]) - confused, "missed"), (int(row["extra"]) - confused, "false")]
        parts += [(confused, "of another class"), (int(row["matched"]), "right")]
        notes[str(img_path)] = ", ".join(f"{count} {word}" for count, word in parts if count) or "nothing here"
    return notes


class FailureBrowser(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets is untyped
    """Worst frames first: a list to choose from, and the frame with annotations and detections side by side.

    Args:
        errors: as for ``failure_notes``, in the order to show.
        load_frame: the frame as (H, W, 3) uint8 RGB, by img_path.
        layers: name -> boxes of a frame, annotations first.

    Attributes:
        browser: the FrameBrowser below the list.
    """

    def __init__(self, errors: pd.DataFrame, *, load_frame: Callable[[str], Pixels], layers: Layers) -> None:
        notes = failure_notes(errors)
        self.browser = FrameBrowser(list(notes), load_frame=load_frame, layers=layers, beside=True, notes=notes)
        options = [(f"{PurePosixPath(path).name}: {note}", path) for path, note in notes.items()]
        self.list = ipywidgets.Select(
            options=options, rows=min(LIST_ROWS, max(len(options), 2)), layout={"width": "98%"}
        )
        self.list.add_class("obdb-failures")
        self._errors = CallbackErrors()
        super().__init__([self.list, self.browser, self._errors.output])
        self.list.observe(self._errors.guard(self._chosen), names="value")
        self.browser.on_frame(self._errors.guard(self._stepped))

    def _chosen(self, change: object) -> None:
        if self.list.value:
            self.browser.go_to(self.list.value)

    def _stepped(self, img_path: str) -> None:
        if img_path and self.list.value != img_path:
            self.list.value = img_path


def failure_sheet(
    errors: pd.DataFrame, *, load_frame: Callable[[str], Pixels], layers: Layers, most: int = 6
) -> Image.Image:
    """The ``most`` worst frames as one still picture, annotations beside detections."""
    notes = failure_notes(errors.head(most))
    return frame_sheet(list(notes), load_frame=load_frame, layers=layers, columns=2, beside=True, notes=notes)
