"""Sherpa's dashboard inside a notebook."""

from __future__ import annotations

from IPython.display import HTML, DisplayHandle, display

HEIGHT_PX = 640
WAIT_MS = 500
"""Time between two looks whether the page is there yet."""

# The search that serves the page begins after this cell's output is shown, so the frame waits for it.
PAGE = """
<iframe title="Sherpa's dashboard" style="width: 100%; height: {height}px; border: 1px solid #E6E6E6"></iframe>
<script>
{{
  const frame = document.currentScript.previousElementSibling;
  const look = () => fetch("{url}", {{ mode: "no-cors" }}).then(
    () => {{ frame.src = "{url}"; }},
    () => {{ if (frame.isConnected) setTimeout(look, {wait}); }});
  setTimeout(look, 0);
}}
</script>
"""


ENDED = "<em>Sherpa's page ended with the search; <code>hpo.open_dashboard</code> shows its record again.</em>"


class DashboardFrame:
    """A dashboard that is shown; as a context manager it gives way to one sentence when its search is over."""

    def __init__(self, handle: DisplayHandle | None) -> None:
        self._handle = handle

    def __enter__(self) -> DashboardFrame:
        return self

    def __exit__(self, *error: object) -> None:
        if self._handle is not None:  # a frame whose server is gone would show the browser's own error page
            self._handle.update(HTML(ENDED))  # type: ignore[no-untyped-call]


def show_dashboard(port: int | None = 8880, *, height: int = HEIGHT_PX) -> DashboardFrame:
    """Show the page at this port of the loopback below the cell, as soon as it is there.

    It lives while its search (or ``hpo.open_dashboard``) runs and reads the trials anew every ten seconds. It shows
    where browser and kernel are on one machine, or where the port is forwarded to the browser's.

    Args:
        port: the search's ``dashboard_port``; None shows nothing.
        height: pixels.
    """
    if port is None:
        return DashboardFrame(None)
    page = PAGE.format(url=f"http://127.0.0.1:{int(port)}/", height=int(height), wait=WAIT_MS)
    return DashboardFrame(display(HTML(page), display_id=True))  # type: ignore[no-untyped-call]
