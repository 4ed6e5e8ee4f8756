"""A page served on this machine (TensorBoard, a dashboard) inside the notebook, folded away until it is wanted."""

from __future__ import annotations

import html

from IPython.display import HTML

HEIGHT_PX = 640


def page_frame(url: str, title: str, *, height: int = HEIGHT_PX, opened: bool = False) -> HTML:
    """A heading that unfolds into the page, and a link that opens it in a tab of its own.

    Args:
        url: address of the page; only this machine's browser can reach 127.0.0.1.
        height: of the frame, pixels.
        opened: unfolded from the beginning.
    """
    address, words = html.escape(url, quote=True), html.escape(title)
    return HTML(  # type: ignore[no-untyped-call]  # IPython is untyped here
        f'<details class="obdb-page-frame"{" open" if opened else ""}>'
        f'<summary style="cursor:pointer">{words} (<a href="{address}" target="_blank" rel="noopener">own tab</a>)'
        f'</summary><iframe src="{address}" title="{words}" loading="lazy" width="100%" height="{height}" '
        'style="border:1px solid #ccc"></iframe></details>'
    )
