"""A still picture of what each cluster looks like."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import pandas as pd
from PIL import Image, ImageDraw

from obdb_lib.errors import DatasetError

CROP_PX = 72
CROPS = 12
TYPICAL = 8
"""Of a row's crops so many are the most typical; the rest are drawn at random, so that a mixed cluster shows it."""
CLUSTERS = 14
OUTLIER_NAMES = ("outlier", "outliers", "-1")
_LABEL_PX = 190
_GAP_PX = 4
_BREAK_PX = 10
_HEAD_PX = 22


def cluster_sheet(points: pd.DataFrame, crops: Callable[[Sequence[str]], list[bytes]], *, seed: int = 0) -> Image.Image:
    """One row a cluster, the largest first and the outliers last: its size, its commonest class, and CROPS crops.

    Left the most typical crops of the cluster, right of the gap some at random; of the outliers the loneliest.

    Args:
        points: columns annotation_id, cluster, object_class and, from ``Clusters``, ``centrality`` and
            ``outlier_score``; without these two all crops of a row are drawn at random.
        crops: encoded pictures by annotation id, in the order asked.
        seed: of the random ones.

    Raises:
        DatasetError: a column is missing.
    """
    needed = ("annotation_id", "cluster", "object_class")
    if missing := [column for column in needed if column not in points.columns]:
        raise DatasetError(f"cluster_sheet needs the columns {', '.join(needed)}; missing: {', '.join(missing)}")
    names = points["cluster"].astype(str)
    sizes = names.value_counts()
    shown = [name for name in sizes.index if name not in OUTLIER_NAMES][:CLUSTERS]
    left_out = len([name for name in sizes.index if name not in OUTLIER_NAMES]) - len(shown)
    shown += [name for name in sizes.index if name in OUTLIER_NAMES]
    step = CROP_PX + _GAP_PX
    foot = _HEAD_PX if left_out else 0
    size = (_LABEL_PX + CROPS * step + _BREAK_PX, _HEAD_PX + max(len(shown), 1) * step + foot)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    typical = "centrality" in points.columns
    draw.text((_LABEL_PX, 4), "most typical" if typical else "at random", "#555555", font_size=12)
    if typical:
        draw.text((_LABEL_PX + TYPICAL * step + _BREAK_PX, 4), "at random", "#555555", font_size=12)
    for row, name in enumerate(shown):
        top = _HEAD_PX + row * step
        members = points[names == name]
        draw.multiline_text((4, top + 18), _caption(name, members), "black", spacing=4, font_size=13)
        first, others = _choose(members, name in OUTLIER_NAMES, seed)
        for column, picture in enumerate(crops([*first, *others])):
            crop = Image.open(io.BytesIO(picture)).resize((CROP_PX, CROP_PX))
            gap = _BREAK_PX if typical and column >= len(first) else 0
            sheet.paste(crop, (_LABEL_PX + column * step + gap, top + _GAP_PX // 2))
    if left_out:
        draw.text((4, size[1] - foot + 3), f"{left_out} smaller clusters are not shown", "#555555", font_size=12)
    return sheet


def _caption(name: str, members: pd.DataFrame) -> str:
    common = members["object_class"].value_counts(normalize=True)
    if name in OUTLIER_NAMES:
        return f"outliers: {len(members):,}\nthe loneliest first"
    return f"cluster {name}: {len(members):,}\n{common.index[0]} {common.iloc[0]:.0%}"


def _choose(members: pd.DataFrame, outliers: bool, seed: int) -> tuple[list[str], list[str]]:
    """Ids of the crops that stand for the row, and of some others."""
    column = "outlier_score" if outliers else "centrality"
    first = members.iloc[:0]
    if column in members.columns:
        first = members.sort_values(column, ascending=False, kind="stable").head(TYPICAL)
    rest = members.drop(first.index)
    others = rest.sample(min(CROPS - len(first), len(rest)), random_state=seed)
    return first["annotation_id"].tolist(), others["annotation_id"].tolist()
