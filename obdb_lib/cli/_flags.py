"""What the command lines have in common: exit codes, strict yes and no, shares, and leave to change things."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

DONE, FAILED, WRONG, NOT_DONE, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: done (or nothing to do); an error that is told; wrong options or settings, before anything ran; a dry
run, because leave was not given; interrupted."""
EXIT_CODES = """exit codes:
  0    done, or there was nothing to do
  1    an error, which is told
  2    wrong options or settings; nothing was run
  130  interrupted; the same command goes on"""
DRY_RUN_CODE = f"""{EXIT_CODES}
  3    dry run: nothing was changed, for neither --yes was given nor a yes in the terminal"""
TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no")


def truth_of(text: str) -> bool:
    """True/1/yes or False/0/no, in any case: upstream's ``type=bool`` took the word False for true."""
    if text.lower() not in (*TRUE, *FALSE):
        raise argparse.ArgumentTypeError(f"wants True or False; got {text!r} (1, 0, yes and no do, too)")
    return text.lower() in TRUE


def add_switch(parser: argparse.ArgumentParser, *names: str, default: bool = False, help: str, **more: Any) -> None:
    """A flag with True or False behind it, as upstream writes them; alone it means True."""
    parser.add_argument(
        *names, type=truth_of, nargs="?", const=True, default=default, metavar="BOOL", help=help, **more
    )


def share_of(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"wants a number from 0 to 1; got {text!r}")
    return value


def overlap_of(text: str) -> float:
    """A number above 0, at most 1."""
    value = share_of(text)
    if not value:
        raise argparse.ArgumentTypeError("wants a number above 0, at most 1: at 0 everything overlaps everything")
    return value


def leave_to_change(*, sure: bool) -> Callable[[str], bool]:
    """The function that asks whether an act ("Send these 3 boxes") may be done: yes at once with ``--yes``, else by the
    terminal; where there is none, no."""

    def agreed(act: str) -> bool:
        if sure:
            return True
        if sys.stdin.isatty() and sys.stdout.isatty():
            try:
                if input(f"{act}? [y/N] ").strip().lower() in ("y", "yes"):
                    return True
            except EOFError:
                print()
            print("Nothing was changed on CVAT.")
        else:
            print(f"Dry run: nothing was changed on CVAT. Add --yes to {act[:1].lower()}{act[1:]}.")
        return False

    return agreed
