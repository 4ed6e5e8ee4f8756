"""Text of others in tables that people open in a spreadsheet: no cell of ours is ever taken for a formula.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line's end ("CSV injection", OWASP).
Such a text gets an apostrophe in front, which spreadsheets take for "this is text"; ``unguarded`` takes it off again,
so that what is read back is what was written.
"""

from __future__ import annotations

import re

_LIKE_A_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]")
"""Also with apostrophes in front, so that a text that has them keeps them; the last four are the full-width signs."""


def guarded(text: str) -> str:
    """``text`` for a cell of a table."""
    return f"'{text}" if _LIKE_A_FORMULA.match(text) else text


def unguarded(cell: str) -> str:
    """The text that ``guarded`` made ``cell`` of; a cell that needed no guard is given back as it is."""
    return cell[1:] if cell.startswith("'") and _LIKE_A_FORMULA.match(cell) else cell
