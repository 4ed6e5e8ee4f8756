"""Python's collector of reference cycles, put off while tens of thousands of documents are made at once."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_open = 0


@contextmanager
def cycles_later() -> Iterator[None]:
    """Look for reference cycles after the block, not in it: documents have none, and looking through them again and
    again costs as much as making them. Blocks may overlap in several threads; a collector that is off stays off."""
    global _open
    with _lock:
        _open += 1
        was_on = gc.isenabled() or _open > 1
        if was_on:
            gc.disable()
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            if was_on and _open == 0:
                gc.enable()
