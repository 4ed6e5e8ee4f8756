"""What a person chose in the parameters of notebook 02, checked at once and by the parameters' own names.

Twins, vectors and a map cost minutes on real data; a mistake should be told before them, with all the others.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field

from obdb_lib import paths
from obdb_lib.detector_embedder import CHECKPOINT_SUFFIXES
from obdb_lib.embedders import find_embedders
from obdb_lib.errors import DatasetError, SettingsError, SplitError
from obdb_lib.given import lists_from
from obdb_lib.grouping import GROUPINGS
from obdb_lib.own_vectors import SUFFIXES
from obdb_lib.projection import METHODS

OWN_GROUPS = "given"
"""The one grouping that a notebook's plain parameter cannot hold: names of your own groups by frame."""


@dataclass
class Choices:
    """Parameters of notebook 02 under their own names in small letters.

    Attributes:
        embedder: "" or a name of embed_by_name.
        map: one of projection.METHODS.
        clusters: 0, or how many k-means is to find.
        group_by: of grouping.GROUPINGS, without ``given``; empty lets the lab choose.
        block_frames, buffer_frames: for ``time_block``.
        val_share, test_share: of the frames; 0 for no test part.
        given: files of given.lists_from.
        manifest: "" or a file.
        nth: of every_nth, 2 or more.
    """

    embedder: str
    map: str
    clusters: int
    group_by: list[str]
    block_frames: int
    buffer_frames: int
    val_share: float
    test_share: float
    given: list[str]
    manifest: str
    nth: int
    _mistakes: list[str] = field(default_factory=list, repr=False)

    def check(self) -> None:
        """Nothing, or one error with all mistakes.

        Raises:
            SettingsError: each line names a parameter, what it holds and what it may hold.
        """
        self._mistakes.clear()
        self._check_looks()
        self._check_groups()
        self._check_shares()
        self._check_files()
        if self._mistakes:
            raise SettingsError("parameters of this notebook:\n- " + "\n- ".join(self._mistakes))

    def _check_looks(self) -> None:
        if self.map not in METHODS:
            self._wrong("MAP", self.map, f"one of {', '.join(METHODS)}", METHODS)
        if self.clusters < 0 or self.clusters == 1:
            self._wrong("CLUSTERS", self.clusters, "0 (HDBSCAN finds their number) or 2 and more")
        if self.nth < 2:
            self._wrong("NTH", self.nth, "2 or more")
        if self.embedder.endswith((*SUFFIXES, *CHECKPOINT_SUFFIXES)):
            self._there("EMBEDDER", self.embedder)
        elif self.embedder:
            try:
                find_embedders(self.embedder)
            except DatasetError as error:
                self._mistakes.append(f"EMBEDDER: {error}, or a file of vectors ({', '.join(SUFFIXES)})")

    def _check_groups(self) -> None:
        known = [name for name in GROUPINGS if name != OWN_GROUPS]
        if isinstance(self.group_by, str):
            self._wrong("GROUP_BY", self.group_by, "a list such as ['video', 'duplicate_group']")
            return
        for name in self.group_by:
            if name not in known:
                self._wrong("GROUP_BY", name, f"names of {', '.join(known)}", known)
        if "time_block" in self.group_by and self.block_frames < 1:
            self._wrong("BLOCK_FRAMES", self.block_frames, "1 or more, as GROUP_BY has 'time_block'")
        if "time_block" not in self.group_by and (self.block_frames or self.buffer_frames):
            self._mistakes.append(
                "BLOCK_FRAMES and BUFFER_FRAMES mean nothing without 'time_block' in GROUP_BY; put it there (with "
                "'duplicate_group', or twins cross the borders of blocks), or set both to 0"
            )
        if self.buffer_frames < 0:
            self._wrong("BUFFER_FRAMES", self.buffer_frames, "0 or more")

    def _check_shares(self) -> None:
        if not 0 < self.val_share < 1:
            self._wrong("VAL_SHARE", self.val_share, "more than 0 and less than 1 (0.2 is a fifth of the frames)")
        elif not 0 <= self.test_share < 1:
            self._wrong("TEST_SHARE", self.test_share, "0 (no test part) or less than 1")
        elif self.val_share + self.test_share >= 1:
            total = self.val_share + self.test_share
            self._wrong("VAL_SHARE + TEST_SHARE", f"{total:g}", "less than 1: the rest of the frames is train")

    def _check_files(self) -> None:
        if self.given and self.manifest:
            self._mistakes.append("GIVEN and MANIFEST are two splits; empty one of them")
        if self.manifest:
            self._there("MANIFEST", self.manifest)
        if isinstance(self.given, str):
            self._wrong("GIVEN", self.given, "a list such as ['split.csv'] or ['train=train.npy', 'val=val.npy']")
        elif self.given:
            try:
                lists = lists_from(self.given)
            except SplitError as error:
                self._mistakes.append(f"GIVEN: {error}")
            else:
                for path in lists.values() if isinstance(lists, dict) else [lists]:
                    self._there("GIVEN", str(path))

    def _wrong(self, name: str, value: object, wanted: str, known: Sequence[str] = ()) -> None:
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        self._mistakes.append(f"{name} must be {wanted}; got {value!r}{hint}")

    def _there(self, name: str, file: str) -> None:
        path = paths.locate(file)
        if not path.is_file():
            self._mistakes.append(f"{name}: there is no file {path}; give the file's full path, or leave it empty")
