"""One root for every error a user can meet, and a few children that say in which room it happened.

A message names the thing, what was wanted, what came instead and the next step. Command lines print the message alone,
and so do notebooks: IPython asks an exception for its own traceback.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ObdbError(Exception):
    """Root of all errors that OBDB Lab raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows (IPython's protocol): the sentence, not the way through the library.

        Source: IPython.core.interactiveshell.InteractiveShell.showtraceback.
        """
        return [f"{type(self).__name__}: {self}", "(%debug in the next cell leads to the place in the code.)"]


class SettingsError(ObdbError):
    """The settings JSON or a notebook parameter is wrong; all mistakes are listed at once."""


class StoreError(ObdbError):
    """MongoDB cannot be reached, or a document is not what it should be."""


class TakenError(StoreError):
    """An entry cannot be added: another one has its id."""


class FormatError(ObdbError):
    """A file to import or export is malformed."""


class PickleRefusedError(FormatError):
    """A pickle asks for something other than plain tables and would run code when loaded."""


class CacheError(ObdbError):
    """A file in data_cache could not be written or read back (a full disk, say)."""


class FrameError(ObdbError):
    """An image is missing or cannot be decoded."""


class DatasetError(ObdbError):
    """The data does not allow what was asked (no boxes, one class too few, an unknown task)."""


class SplitError(ObdbError):
    """A split is impossible, or no longer fits the data it was made for."""


class DriftError(SplitError):
    """A split is asked for with data other than it was made for; the message counts and names the frames."""


class TrainingError(ObdbError):
    """Training, search or evaluation cannot go on (non-finite loss, unknown variant, unusable checkpoint)."""


class ReviewError(ObdbError):
    """A decision names an unknown suggestion or verdict."""


class DecidedMeanwhileError(ReviewError):
    """Somebody else decided on this suggestion since the person last saw it.

    Attributes:
        entry: their entry in the journal.
    """

    def __init__(self, message: str, entry: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.entry = entry


class CvatError(ObdbError):
    """The CVAT server refused, could not be reached, or answered with something else than was sent."""


class ActError(ObdbError):
    """An act of maintenance broke off, for a reason in its own code."""


class BatchError(ObdbError):
    """A batch run was asked for with wrong parameters, or one of its notebooks failed."""
