"""What every widget shares: arguments that fail loudly, one place for errors of callbacks, plain ESM and CSS from disk.

ipywidgets swallows unknown keyword arguments, and an exception in a callback of the browser goes to a log nobody reads;
both cost people hours, so both are caught here.
"""

from __future__ import annotations

import difflib
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import anywidget
import ipywidgets
from traitlets import TraitError

from obdb_lib.errors import ObdbError

P = ParamSpec("P")
logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
"""Plain ES modules and style sheets; loaded as text, so they may not import each other."""


def joined(*names: str) -> str:
    """Several files of ``STATIC`` as one module or style sheet, in this order; they share one scope."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names)


def refuse_unknown(widget: str, given: Mapping[str, object], allowed: Sequence[str]) -> None:
    """Raise TypeError that names the unknown keyword arguments, the nearest known name and all known ones."""
    unknown = [name for name in given if name not in allowed]
    if not unknown:
        return
    hints = []
    for name in unknown:
        near = difflib.get_close_matches(name, allowed, n=1)
        hints.append(f"{name!r} (did you mean {near[0]!r}?)" if near else repr(name))
    raise TypeError(f"{widget} does not know the argument {', '.join(hints)}; it takes: {', '.join(allowed)}")


def sentence(error: BaseException) -> str:
    """One readable line for an error: our own errors speak for themselves, others are named by their type."""
    text = " ".join(str(error).split())
    if isinstance(error, ObdbError | TraitError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class CallbackErrors:
    """Owns the one Output in which errors of callbacks appear, below the widget they belong to."""

    def __init__(self) -> None:
        self.output = ipywidgets.Output()
        self.output.add_class("obdb-errors")
        self._depth = 0

    def show(self, error: BaseException) -> None:
        """Put one line on the page and the traceback into the log."""
        logger.error("a widget callback failed", exc_info=error)
        line = {"output_type": "stream", "name": "stderr", "text": f"{sentence(error)}\n"}
        self.output.outputs = (line,)

    def clear(self) -> None:
        """Take an earlier error away."""
        self.output.outputs = ()

    def guard(self, callback: Callable[P, None]) -> Callable[P, None]:
        """Wrap ``callback`` so that an error is shown here instead of being lost; the next act clears it."""

        @functools.wraps(callback)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            # One act of a person can set off several callbacks, one inside the other: only the outermost clears.
            if not self._depth and self.output.outputs:
                self.clear()
            self._depth += 1
            try:
                callback(*args, **kwargs)
            except Exception as error:
                self.show(error)
            finally:
                self._depth -= 1

        return guarded


class PlainWidget(anywidget.AnyWidget):
    """Base of our own views: every keyword must be a public trait."""

    def __init__(self, **traits: Any) -> None:
        allowed = [name for name in self.trait_names() if not name.startswith("_")]
        refuse_unknown(type(self).__name__, traits, sorted(allowed))
        super().__init__(**traits)
