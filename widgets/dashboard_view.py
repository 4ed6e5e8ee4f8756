"""Sherpa's dashboard inside a notebook."""

from __future__ import annotations

from IPython.display import IFrame, display

HEIGHT_PX = 640


def show_dashboard(port: int = 8880, *, height: int = HEIGHT_PX) -> None:
    """Show the page at this port of the loopback below the cell.

    The page lives while its search (or ``hpo.open_dashboard``) runs and reads the trials anew every ten seconds. It is
    reached where browser and kernel are on one machine, or the port is forwarded to the browser's.

    Args:
        port: ``SearchResult``'s ``dashboard_port``.
        height: pixels.
    """
    display(IFrame(f"http://127.0.0.1:{port}/", width="100%", height=height))  # type: ignore[no-untyped-call]
