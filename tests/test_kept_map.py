"""The split that notebook 02 hands on takes the map along, for notebook 04."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from obdb_lib.chosen_split import SplitKeeper
from obdb_lib.clusters import Clusters
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.embeddings import Embeddings
from obdb_lib.kept_map import read_map
from obdb_lib.splits import by_groups, every_nth
from obdb_lib.stages import read_result
from obdb_lib.store import Store
from tests.helpers import random_boxes, snapshot_of, task


def test_the_map_is_kept_beside_the_result_and_read_back(store: Store, tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    boxes = [{frame: [("Fat hen", box) for box in random_boxes(dice, 2)] for frame in range(5)} for _ in range(4)]
    snapshot = snapshot_of([task(f"FieldData 20200520145736 1L GH0{v}0068", 5, boxes[v]) for v in range(4)])
    paths = pd.Index(snapshot.frames["img_path"], name="img_path")
    twins = DuplicateGroups(
        pd.Series(range(len(paths)), index=paths), pd.DataFrame(columns=["first", "second", "correlation"])
    )
    ids = dice.permutation(snapshot.annotations["annotation_id"].to_numpy(object))
    vectors = dice.normal(size=(len(ids), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    xy = dice.normal(size=(len(ids), 2)).astype(np.float32)
    labels = pd.Series(dice.integers(-1, 3, len(ids)), index=ids)
    common = (store, tmp_path, snapshot, twins, Clusters(labels), Embeddings(ids, vectors, "own"), every_nth(snapshot))
    chosen = by_groups(snapshot, group_by=["video"])
    SplitKeeper(*common).keep(chosen)
    assert "map" not in read_result(tmp_path, "02_explore_and_split"), "no map, none is promised"
    SplitKeeper(*common, xy=xy).keep(chosen)
    result = read_result(tmp_path, "02_explore_and_split")
    points = read_map(tmp_path / result["map"])
    assert result["split_id"] == chosen.id
    assert points["annotation_id"].tolist() == ids.tolist()
    np.testing.assert_array_equal(points[["x", "y"]].to_numpy(), xy)
    assert points["cluster"].tolist() == labels.tolist()
