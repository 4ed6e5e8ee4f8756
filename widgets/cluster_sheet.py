"""A still picture of what each cluster looks like."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import pandas as pd
from PIL import Image, ImageDraw

CROP_PX = 72
CROPS = 12
CLUSTERS = 14
_LABEL_PX = 190


def cluster_sheet(points: pd.DataFrame, crops: Callable[[Sequence[str]], list[bytes]], *, seed: int = 0) -> Image.Image:
    """One row a cluster, the largest first: its size, its commonest class, and CROPS of its crops.

    Args:
        points: columns annotation_id, cluster, object_class.
        crops: encoded pictures by annotation id, in the order asked.
    """
    sizes = points["cluster"].value_counts()
    names = [name for name in sizes.index if name != "outlier"][:CLUSTERS] + ["outlier"] * ("outlier" in sizes.index)
    step = CROP_PX + 4
    sheet = Image.new("RGB", (_LABEL_PX + CROPS * step, max(len(names), 1) * step), "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(names):
        members = points[points["cluster"] == name]
        common = members["object_class"].value_counts(normalize=True)
        title = "outliers" if name == "outlier" else f"cluster {name}"
        text = f"{title}: {len(members)}\n{common.index[0]} {common.iloc[0]:.0%}"
        draw.multiline_text((4, row * step + 20), text, "black", spacing=4, font_size=13)
        chosen = members.sample(min(CROPS, len(members)), random_state=seed)["annotation_id"].tolist()
        for column, picture in enumerate(crops(chosen)):
            crop = Image.open(io.BytesIO(picture)).resize((CROP_PX, CROP_PX))
            sheet.paste(crop, (_LABEL_PX + column * step, row * step + 2))
    return sheet
