"""The split explorer: the map of crops, a lasso, and keys that put what was lassoed into train, val or test.

What the edit does to balance and leaks is shown at once beside the map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.errors import DatasetError, SplitError
from obdb_lib.split_draft import EXCLUDED, SplitDraft, SplitNumbers
from obdb_lib.splits import BUILDER, PARTS, Edit, Split
from widgets._base import logger, refuse_unknown, sentence
from widgets.cluster_map import CLASS_COLUMN, ClusterMap, CropLoader
from widgets.palette import OUTSIDE_LABEL, PART_COLOURS, Colouring, part_colouring
from widgets.point_view import MAP_HEIGHT_PX
from widgets.split_views import SplitBar, SplitPanel

SPLIT_COLUMN = "split"
PANEL_PX = 316
KEYS = {"train": "t", "val": "v", "test": "e", "excluded": "x", BUILDER: "b"}
HELP = {
    **{
        part: f"put the selected frames into {part}; their groups too, while they are kept whole"
        for part in ("train", "val", "test")
    },
    EXCLUDED: "leave the selected frames out, alone: a bad frame says nothing about its group",
    BUILDER: "back to where the builder had put them; their groups too, while they are kept whole",
}
FIRST_COLUMNS = (
    *(SPLIT_COLUMN, CLASS_COLUMN, "cluster", "task_name", "session", "camera", "video", "size", "distortion"),
    *("outlier_score", "score"),
)
"""What people colour by stands first in the menu."""

NOTHING_SELECTED = "Nothing selected: drag around points (Shift adds, Alt takes away), then press a key. ? explains."
SELECT_FIRST = "Select something first: drag around points on the map."


class SplitExplorer(ClusterMap):
    """A map on which a person edits a split and sees what it costs.

    Keys, once the explorer was clicked: t train, v val, e test, x excluded, b back to where the builder had put it;
    u undo, y or Shift+U redo, Esc clears the selection, ? help. An edit moves whole frames, and their groups with them
    unless "keep groups whole" is switched off; x excludes the selected frames alone.

    Args:
        points: as for ClusterMap, with ``img_path``; a column ``split`` is made from the draft.
        draft: the split being edited; edits made to it from Python are shown after ``refresh``.
        crops: gives one encoded picture per annotation id, in the order asked; None shows none.
        save: stores the split it is given (``lambda split: store.save_split(*split.documents())``); None cannot save.
            A split it refuses with an error stays on the page, its edits unsaved, and the sentence is shown in red.
        colour_by: the column that colours the points at first; the parts themselves, so that an edit is seen.

    Attributes:
        selected: annotation ids of the selection, in the order of ``points``; observe it, or set it from Python.
        draft: the draft given.

    Raises:
        DatasetError: a column is missing, ids repeat, coordinates are not finite, or no point is on a frame of the
            split.
        TypeError: an unknown argument.
    """

    def __init__(
        self,
        points: pd.DataFrame,
        draft: SplitDraft,
        *,
        crops: CropLoader | None = None,
        save: Callable[[Split], None] | None = None,
        colour_by: str = SPLIT_COLUMN,
        **unknown: Any,
    ) -> None:
        refuse_unknown(type(self).__name__, unknown, ("points", "draft", "crops", "save", "colour_by"))
        self.draft = draft
        self._save = save
        self._saved: tuple[Edit, ...] = draft.split.edits
        self._before: SplitNumbers = draft.numbers()
        self._frame_of_point = frames_of_points(points, draft)
        self._bar = SplitBar(parts=_buttons(), has_groups=draft.has_groups, keep_whole=draft.keep_groups_whole)
        self._panel = SplitPanel(layout=ipywidgets.Layout(flex=f"0 0 {PANEL_PX}px", height=f"{MAP_HEIGHT_PX}px"))
        super().__init__(_in_order(points, self._split_labels()), crops=crops, colour_by=colour_by)
        self.add_class("obdb-split-explorer")
        self._bar.on_msg(self._on_message)
        self._bar.observe(self._errors.guard(lambda change: self._keep_whole(change["new"])), names="keep_whole")
        self._say(self._standing)
        self._describe_parts()
        self._show_draft()
        self._show_reach()

    @property
    def _standing(self) -> str:
        """The message while there is no news."""
        return "" if self._save else "No way to save was given: hand SplitExplorer save=... to keep your edits."

    @property
    def split(self) -> Split:
        """The split as it stands, with its edits."""
        return self.draft.result()

    @property
    def selected_frames(self) -> tuple[str, ...]:
        """Sorted img_paths of the selected annotations, of those in the split."""
        rows = np.unique(self._frame_of_point[self._rows])
        return tuple(self.draft.img_paths[rows[rows >= 0]])

    @property
    def unsaved(self) -> bool:
        """Are there edits, or undone edits, that were not saved?"""
        return self.draft.edits != self._saved

    def assign(self, part: str) -> Edit | None:
        """Put the frames of the selection into a part (of PARTS), or back to where the builder had put them (BUILDER).

        Returns:
            The edit; None when nothing is selected or nothing moved.

        Raises:
            SplitError: there is no such part.
        """
        before, frames = self.draft.numbers(), self.selected_frames
        edit = self.draft.assign(frames, part)
        if not len(self._rows):
            self._say(SELECT_FIRST)
        elif edit is None:
            where = "where the builder had put them" if part == BUILDER else f"in {part}"
            self._say(f"Nothing to move: these frames are {where} already.")
        else:
            self._changed(before)
            self._say(_moved(edit, set(frames), self._left_behind(edit)), "good")
        return edit

    def undo(self) -> Edit | None:
        """Take back the latest edit; None when there is none."""
        before, edit = self.draft.numbers(), self.draft.undo()
        if edit:
            self._changed(before)
        self._say(
            f"Took back the move of {_named(edit)}. y makes it again." if edit else "There is no edit to take back."
        )
        return edit

    def redo(self) -> Edit | None:
        """Make again the edit that was undone last; None when there is none."""
        before, edit = self.draft.numbers(), self.draft.redo()
        if edit:
            self._changed(before)
        self._say(f"Moved {_named(edit)} again." if edit else "There is no undone edit to make again.")
        return edit

    def save(self) -> Split:
        """Hand the split with its edits to ``save`` and return it.

        Raises:
            SplitError: no ``save`` was given. What ``save`` raises goes through; the edits then count as unsaved.
        """
        if self._save is None:
            raise SplitError("this explorer was given no way to save: SplitExplorer(..., save=...)")
        split = self.split
        self._save(split)
        self.saved(split)
        return split

    def saved(self, split: Split) -> None:
        """Take note that ``split`` was kept by other means than the page's Save button.

        Its edits then count as saved; edits the page has beyond them stay unsaved.

        Raises:
            SplitError: ``split`` is no version of the one edited here.
        """
        ours = self.draft.split
        if (split.snapshot_id, split.strategy) != (ours.snapshot_id, ours.strategy) or not pd.Index(
            split.frames["img_path"]
        ).equals(self.draft.img_paths):
            raise SplitError(
                f"split {split.id} is no version of split {ours.id}, which is edited here; hand over explorer.split"
            )
        self._saved = split.edits
        text = f"Saved split {split.id}. Notebook 03 trains on it."
        if split.edits:
            edits = "edit" if len(split.edits) == 1 else f"{len(split.edits)} edits"
            text += f' EDITS = "{split.id}" in this notebook makes its {edits} again when it is run anew.'
        self._say(text, "good")
        self._show_draft()

    def refresh(self) -> None:
        """Show a draft that was changed from Python."""
        self._changed(self._before)

    def data(self) -> pd.DataFrame:
        """The rows of ``points`` that are selected, in their order; ``split`` is the part each one is in now."""
        return super().data().assign(**{SPLIT_COLUMN: np.asarray(self._split_labels())[self._rows]})

    def _above(self) -> list[ipywidgets.Widget]:
        return [self._bar]

    def _beside(self) -> list[ipywidgets.Widget]:
        return [self._panel]

    def _part_codes(self) -> NDArray[np.int32]:
        """(N,) index into PARTS per point, -1 for points on frames outside the split."""
        codes = np.append(self.draft.part_codes, -1)
        return codes[self._frame_of_point].astype(np.int32)

    def _split_labels(self) -> pd.Categorical[str]:
        codes = self._part_codes()
        codes[codes < 0] = len(PARTS)
        return pd.Categorical.from_codes(codes, categories=pd.Index([*PARTS, OUTSIDE_LABEL]))

    def _colours(self, column: str) -> Colouring:
        if column == SPLIT_COLUMN and column not in self._colourings:
            self._colourings[column] = part_colouring(column, self._part_codes())
        return super()._colours(column)

    def _title(self, row: int) -> str:
        frame = int(self._frame_of_point[row])
        part = PARTS[int(self.draft.part_codes[frame])] if frame >= 0 else OUTSIDE_LABEL
        texts = [line for line in super()._title(row).split("\n") if not line.startswith(f"{SPLIT_COLUMN}: ")]
        name = str(self._points["img_path"].iloc[row]).rsplit("/", 1)[-1]
        return "\n".join([*texts, f"{SPLIT_COLUMN}: {part}", name])

    def _changed(self, before: SplitNumbers) -> None:
        """An edit was made or taken back: numbers first, then what else on the page depends on parts."""
        self._before = before
        self._show_draft()
        labels = self._split_labels()
        self._points[SPLIT_COLUMN] = labels
        self._colourings.pop(SPLIT_COLUMN, None)
        if self.colour_by == SPLIT_COLUMN:
            self._recolour()
        self._describe_parts()
        if SPLIT_COLUMN in self._filter.chosen:
            self._filter_points()
        self._retell()
        self._show_reach()

    def _describe_parts(self) -> None:
        codes = self._part_codes().astype(np.int64)
        labels = list(PARTS)
        if (codes < 0).any():
            codes, labels = np.where(codes < 0, len(PARTS), codes), [*PARTS, OUTSIDE_LABEL]
        self._filter.describe(SPLIT_COLUMN, codes, labels)

    def _show_draft(self) -> None:
        edits, saved = self.draft.edits, self._saved
        more = len(edits) - len(saved) if edits[: len(saved)] == saved else 0
        with self._bar.hold_sync():
            self._bar.can_undo = bool(self.draft.edits)
            self._bar.can_redo = self.draft.can_redo
            self._bar.can_save = self._save is not None and self.unsaved
            text = f"{_count(more, 'edit')} not saved" if more else "changes not saved"
            self._bar.unsaved = text if self.unsaved else ""
        self._panel.tell(self.draft.numbers(), self._before, self.draft.target)

    def _keep_whole(self, whole: bool) -> None:
        self.draft.keep_groups_whole = whole
        self._show_reach()

    def _selection_changed(self) -> None:
        self._say(self._standing)  # news about an earlier selection are old
        self._show_reach()

    def _show_reach(self) -> None:
        """Say what is selected, and how many frames an edit would move for it."""
        frames = np.unique(self._frame_of_point[self._rows])
        frames = frames[frames >= 0]
        outside = int((self._frame_of_point[self._rows] < 0).sum())
        text = NOTHING_SELECTED
        if len(self._rows):
            text = f"{_count(len(self._rows), 'box', 'boxes')} in {_count(len(frames), 'frame')} selected"
            reach = len(self.draft.reach(self.draft.img_paths[frames], "val"))
            if reach > len(frames):
                alone = "this frame" if len(frames) == 1 else f"these {len(frames):,} frames"
                text += f"; with their groups {reach:,} frames (x: {alone} alone)"
            if outside:
                text += f" ({outside:,} on frames outside this split)"
        with self._bar.hold_sync():
            self._bar.selection, self._bar.ready = text, len(frames) > 0

    def _left_behind(self, edit: Edit) -> bool:
        """Did frames leave that have others in their group? Only what is excluded leaves without its group."""
        reach = self.draft.reach(edit.img_paths, "val") if edit.part == EXCLUDED else ()
        return len(reach) > len(edit.img_paths)

    def _say(self, text: str, kind: str = "info") -> None:
        self._bar.message = {"kind": kind, "text": text}

    def _on_message(self, _: object, content: Mapping[str, Any], __: object) -> None:
        """An act of the person: a key or a button."""
        acts: dict[str, Callable[[], object]] = {
            "undo": self.undo,
            "redo": self.redo,
            "save": self.save,
            "clear": self.clear,
            **{part: partial(self.assign, part) for part in KEYS},
        }
        try:
            act = acts.get(str(content.get("act")))
            if act is None:
                raise SplitError(f"the page asked for {content.get('act')!r}, which is no act here; reload the page")
            act()
        except Exception as error:
            logger.error("an act in the split explorer failed", exc_info=error)
            self._say(f"Not saved: {sentence(error)}" if content.get("act") == "save" else sentence(error), "error")
        self._bar.turn += 1


def frames_of_points(points: pd.DataFrame, draft: SplitDraft) -> NDArray[np.int64]:
    """Row of the draft per point, -1 for points on frames outside the split."""
    if "img_path" not in points.columns:
        raise DatasetError("the points of a split explorer need the column img_path: parts are made of whole frames")
    rows = np.asarray(draft.img_paths.get_indexer(pd.Index(points["img_path"])), dtype=np.int64)
    if len(rows) and (rows < 0).all():
        raise DatasetError(
            f"none of the {len(points)} points is on a frame of split {draft.split.id}; are they of another snapshot?"
        )
    return rows


def _in_order(points: pd.DataFrame, split: pd.Categorical[str]) -> pd.DataFrame:
    table = points.assign(**{SPLIT_COLUMN: split})
    first = [column for column in FIRST_COLUMNS if column in table.columns]
    return table[[*first, *(column for column in table.columns if column not in first)]]


def _buttons() -> list[dict[str, str]]:
    parts = [
        {"name": part, "label": part, "key": KEYS[part], "colour": PART_COLOURS[part], "help": HELP[part]}
        for part in PARTS
    ]
    back = {"name": BUILDER, "label": "back to builder", "key": KEYS[BUILDER], "colour": "", "help": HELP[BUILDER]}
    return [*parts, back]


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _named(edit: Edit | None) -> str:
    if edit is None:
        return ""
    where = "back to where the builder had put them" if edit.part == BUILDER else f"to {edit.part}"
    return f"{_count(len(edit.img_paths), 'frame')} {where}"


def _moved(edit: Edit, chosen: set[str], left_behind: bool) -> str:
    along = sum(path not in chosen for path in edit.img_paths)
    more = f", {along:,} of them along with their group" if along else ""
    if left_behind:
        more = ", without the rest of their groups"
    return f"Moved {_named(edit)}{more}. u takes it back."
