"""``auto_annotate`` with upstream's flags against the stand-in: each act as a dry run, for real, and again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from obdb_lib import kept_detections
from obdb_lib.annotate.sources import named
from obdb_lib.boxes import BoxSet, match
from obdb_lib.checkpoints import Checkpoint, cpu_state, load_detector, save_checkpoint
from obdb_lib.cli.auto_annotate import main
from obdb_lib.models import build_detector
from obdb_lib.records import TaskRecord
from obdb_lib.splits import by_groups
from obdb_lib.store import Store
from tests.cvat_server import StandIn
from tests.cvat_server.helpers import PASSWORD, log_in, stored_shapes
from tests.few_proposals import quick
from tests.helpers import CLASSES, task, write_frames

NAMES = ["FieldData 20200520145736 1L GH020068", "FieldData 20200521145736 2R GH030068"]
THRESHOLD = "0.33"
"""An untrained detector gives each class about this much."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that was never trained: it sees a third of something everywhere, each time the same."""
    path = tmp_path_factory.mktemp("model") / "resnet18_model.pth"
    detector = build_detector("mobilenet_v2", CLASSES, image_size=64, told=False)
    save_checkpoint(path, Checkpoint(detector.spec, cpu_state(detector), run_id="run1"))
    return path


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as found:
        yield found


@pytest.fixture
def records() -> list[TaskRecord]:
    boxes = {0: [("Fat hen", [10, 10, 30, 30])], 1: [("Dandelion", [5, 5, 25, 25]), ("Fat hen", [50, 20, 80, 60])]}
    return [task(name, 3, boxes) for name in NAMES]


@pytest.fixture
def world(
    tmp_path: Path,
    store: Store,
    server: StandIn,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    records: list[TaskRecord],
) -> Path:
    """Upstream's folders outside the container: /train with model and pickle, /weed_data with images."""
    for name in ("train/pickled_weed", "weed_data", "auto_annotation"):
        (tmp_path / name).mkdir(parents=True)
    for variable, name in (
        ("OBDB_TRAIN", "train"),
        ("OBDB_WEED_DATA", "weed_data"),
        ("OBDB_AUTO_ANNOTATION", "auto_annotation"),
    ):
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setenv("OBDB_DATABASE", store._db.name)
    monkeypatch.setenv("CVAT_URL", server.url)
    monkeypatch.setenv("CVAT_USERNAME", "admin")
    monkeypatch.setenv("CVAT_PASSWORD", PASSWORD)
    monkeypatch.setattr(kept_detections, "load_detector", lambda path: quick(load_detector(path), 60))
    (tmp_path / "train/resnet18_model.pth").write_bytes(checkpoint.read_bytes())
    write_frames(tmp_path / "weed_data", records)
    plain = table(records).astype(object)
    plain.set_axis(plain.columns.astype(object), axis=1).to_pickle(tmp_path / "train/pickled_weed/pd_val.pkl")
    return tmp_path


def table(records: list[TaskRecord]) -> pd.DataFrame:
    """Upstream's table of these tasks."""
    rows = []
    for record in records:
        for number, place in enumerate(record.meta["frames"]):
            own = [one for one in record.annotations if one["frame"] == number]
            rows.append(
                {
                    "img_path": f"/weed_data/{place['name']}",
                    "img_width": place["width"],
                    "img_height": place["height"],
                    "bboxes": [one["points"] for one in own],
                    "labels": [one["object_class"] for one in own],
                    "task_name": record.name,
                }
            )
    return pd.DataFrame(rows)


def run(*arguments: str) -> int:
    return main(list(arguments))


PICKLE = ("-p", "/train/pickled_weed/pd_val.pkl", "-v", "resnet18", "-t", THRESHOLD)


def test_pickle__dry_run_by_default_then_sent_then_nothing_left(
    world: Path, server: StandIn, store: Store, capsys: pytest.CaptureFixture[str], records: list[TaskRecord]
) -> None:
    assert run(*PICKLE) == 3
    told = capsys.readouterr().out
    assert "6 frames, 6 annotations" in told
    assert "Dry run: nothing was changed on CVAT." in told
    assert re.search(r"Add --yes to send these \d+ boxes to CVAT\.", told)
    assert server.writes == []
    assert store.pushes() == []
    assert run(*PICKLE, "--yes") == 0
    sent = stored_shapes(server)
    assert sent
    assert all(shape["score"] >= float(THRESHOLD) and shape["source"] == "auto" for shape in sent)
    for name in {shape["task"] for shape in sent}:
        assert any(name.startswith("auto_annotation_resnet18_20") and name.endswith(f"_{one}") for one in NAMES), name
    assert explained(sent, records) == 0, "what an annotation of its class explains is not sent"
    capsys.readouterr()
    assert run(*PICKLE, "--yes") == 0
    assert stored_shapes(server) == sent
    assert "Nothing is left to send: the boxes were sent before" in capsys.readouterr().out


def explained(shapes: list[dict[str, object]], records: list[TaskRecord], min_iou: float = 0.5) -> int:
    """How many of the shapes an annotation of their class explains, frame by frame."""
    count = 0
    for record in records:
        for number, place in enumerate(record.meta["frames"]):
            name = place["name"].replace("/", "__")
            found = [one for one in shapes if one["image"] == name]
            drawn = [one for one in record.annotations if one["frame"] == number]
            if found and drawn:
                sides = [
                    BoxSet(np.array([one["points"] for one in side], dtype=np.float32), np.array(names, dtype=object))
                    for side, names in (
                        (found, [one["label"] for one in found]),
                        (drawn, [one["object_class"] for one in drawn]),
                    )
                ]
                count += len(match(*sides, min_iou=min_iou).pairs)
    return count


def test_overlap_and_threshold_are_the_users(world: Path, server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    counts = []
    for more in (["-i", "0.05"], ["-i", "0.9"], ["-t", "0.99"]):
        assert run(*PICKLE, *more) in (0, 3)
        told = capsys.readouterr().out
        counts.append(sum(int(found) for found in re.findall(r"(\d+) boxes on", told)))
    assert counts[0] < counts[1], "the less overlap explains a box, the fewer are left"
    assert counts[2] == 0
    assert server.writes == []


def test_folder_of_the_found__ground_truth_of_its_images(
    world: Path, server: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*PICKLE)
    (made,) = (world / "auto_annotation/resnet18").iterdir()
    listed = (made / "frames.txt").read_text().splitlines()
    assert len(json.loads((made / "suggestions.json").read_text())) >= len(listed) > 0
    (made / "frames.txt").write_text(f"{listed[0]}\n")
    folder = f"/auto_annotation/resnet18/{made.name}"
    assert run("-p", "/train/pickled_weed/pd_val.pkl", "-g", folder) == 3
    assert server.writes == []
    assert run("-p", "/train/pickled_weed/pd_val.pkl", "-g", folder, "--yes") == 0
    (uploaded,) = server.world.tasks.values()
    assert uploaded.name == NAMES[0]
    assert uploaded.data is not None
    assert [frame.name for frame in uploaded.data.frames] == [listed[0].replace("/", "__")]
    assert run("--upload_pkl", "True", "-p", "/train/pickled_weed/pd_val.pkl", "--yes") == 0
    told = capsys.readouterr().out
    assert f"{NAMES[0]!r} is on CVAT already (id 1) and was left alone" in told
    assert {found.name for found in server.world.tasks.values()} == set(NAMES)
    second = [shape for shape in stored_shapes(server) if shape["task"] == NAMES[1]]
    assert sorted(shape["label"] for shape in second) == ["Dandelion", "Fat hen", "Fat hen"]


def test_one_task_again(world: Path, server: StandIn, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-r", NAMES[1], "-t", THRESHOLD, "-v", "resnet18", "--yes") == 0
    assert {shape["task"].split("_")[-1] for shape in stored_shapes(server)} == {NAMES[1]}
    (world / "train/pickled_weed/pd_val.pkl").unlink()
    assert run("-r", "FieldData 20200521145736 2R GH03006", "-v", "resnet18") == 1
    assert "holds a task 'FieldData 20200521145736 2R GH03006'" in capsys.readouterr().err
    store.import_tasks([task(NAMES[0], 2, {0: [("Fat hen", [1, 1, 20, 20])]})])
    capsys.readouterr()
    assert run("-r", NAMES[0].replace(" ", "_"), "-t", THRESHOLD, "-v", "resnet18") == 3
    assert f"the store, task {NAMES[0]}: 2 frames, 1 annotations" in capsys.readouterr().out


def test_folder_of_images_without_annotations(world: Path, server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    folder = next((world / "weed_data").rglob("GH020068"))
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.png").write_bytes(b"no picture")
    inside = f"/weed_data/{folder.relative_to(world / 'weed_data')}"
    assert run("-f", inside, "-v", "resnet18", "-t", THRESHOLD, "--ext", "png", "--yes") == 0
    told = capsys.readouterr().out
    assert "3 frames, 0 annotations" in told
    assert "broken.png: image cannot be read" in told
    assert {shape["task"].split("_")[-1] for shape in stored_shapes(server)} == {"GH020068"}
    assert run("-f", inside, "-v", "resnet18", "--ext", "jpg") == 1
    assert "holds no picture that ends in jpg" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["parquet", "coco", "split", "part of a split"])
def test_other_sources(
    kind: str, world: Path, store: Store, capsys: pytest.CaptureFixture[str], records: list[TaskRecord]
) -> None:
    if kind == "parquet":
        table(records).to_parquet(world / "train/val.parquet")
        named = "/train/val.parquet"
    elif kind == "coco":
        from obdb_lib.formats import coco

        coco.write(records, world / "train/annotations.json")
        named = "/train/annotations.json"
    else:
        store.import_tasks(records)
        snapshot = store.load(store.snapshot())
        split = by_groups(snapshot, group_by=["video"], shares={"train": 0.5, "val": 0.5})
        store.save_split(*split.documents())
        named = split.id if kind == "split" else f"{split.id}:train"
    assert run("-p", named, "-v", "resnet18", "-t", THRESHOLD) == 3
    wanted = "3 frames, 3 annotations" if "split" in kind else "6 frames, 6 annotations"
    assert wanted in capsys.readouterr().out


def test_set_complete__all_or_those_of_a_pattern(
    world: Path, server: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--upload_pkl", "True", "--yes")
    assert run("-s", "True") == 3
    assert {job.state for job in server.world.jobs.values()} == {"new"}
    assert run("-s", "True", "-m", "GH020068", "--yes") == 0
    assert [job.status for job in server.world.jobs.values()].count("completed") == 1
    assert run("-s", "--yes") == 0
    assert {task["status"] for task in log_in(server).tasks()} == {"completed"}
    capsys.readouterr()
    assert run("-s", "True") == 0
    assert "no task is left to set completed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["-u", "maybe"],
            "-u/--update_annotations: wants True or False; got 'maybe' (1, 0, yes and no do, too)",
        ),
        (["-s", "on"], "argument -s/--set_complete: wants True or False"),
        (["-t", "1.5"], "argument -t/--threshold: wants a number from 0 to 1; got '1.5'"),
        (["-i", "0"], "argument -i/--iou_threshold: wants a number above 0"),
        (["-u", "True", "-m", "gt_val"], "-u needs -d"),
        (["-s", "True", "-d", "auto_annotation_x"], "-s takes its tasks by -m"),
        (["-c", "True", "--src", "a"], "-c needs --src and --dst"),
        (["-x", "a", "-s", "yes"], "-x and -s are different acts; give one of them"),
        (["--class_map", "no_map"], "invalid choice: 'no_map'"),
    ],
)
def test_wrong_options__exit_code_2_before_anything(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["-p", "/train/none.pkl", "-v", "resnet18"], 1, "is neither a file or folder ("),
        (["-v", "resnet81"], 1, "resnet18 (did you mean 'resnet18'?)"),
        (["-v", "../evil", "--model_path", "/train/resnet18_model.pth"], 2, "'../evil' cannot name folders and tasks"),
        (["--model_path", "/train/none.pth"], 1, "the detector is not at "),
        (["--settings_file", "none.json"], 2, "settings file none.json cannot be read"),
        (["-x", "/train/none"], 1, "cannot be listed (No such file or directory)"),
        (["-g", "/auto_annotation/none"], 1, "is no folder; it names one that auto_annotate.py -p made"),
        (["-w", "True"], 2, "-w 'True': no act of this name; there are complete_listed"),
        (["-w", "delet_auto"], 2, "did you mean 'delete_auto'?"),
        (["-c", "--src", "/train/none", "--dst", "/train/out"], 1, "is no folder"),
    ],
)
def test_mistakes_are_told_with_their_exit_code(
    arguments: list[str], code: int, told: str, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == code
    assert told in capsys.readouterr().err


def test_without_cvat__a_dry_run_works_and_sending_says_what_is_lacking(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CVAT_URL")
    assert run(*PICKLE) == 3
    for arguments in ([*PICKLE, "--yes"], ["-s", "True"], ["-w", "same_names"]):
        assert run(*arguments) == 1
        assert "no CVAT server is named: set CVAT_URL" in capsys.readouterr().err


def test_terminal_is_asked(
    world: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    answers = iter(["no", "y"])

    def answer(question: str) -> str:
        asked.append(question)
        return next(answers)

    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    assert run("--upload_pkl", "yes") == 3
    assert "Nothing was changed on CVAT." in capsys.readouterr().out
    assert run("--upload_pkl", "1") == 0
    assert len(stored_shapes(server)) == 6
    assert asked == ["Make these tasks on CVAT? [y/N] "] * 2


def test_labels_of_a_class_map(world: Path, server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"variants": ["resnet18"], "auto_annotation_class_map": ["Dandelion", "Fat hen", "Rye"]}
    path = world / "settings.json"
    path.write_text(json.dumps(settings))
    given = ["--settings_file", str(path), "--class_map", "auto_annotation_class_map", "--upload_pkl", "True", "--yes"]
    assert run(*given) == 0
    assert {label["name"] for label in log_in(server).labels(task_id=1)} == {"Dandelion", "Fat hen", "Rye"}
    path.write_text(json.dumps({**settings, "auto_annotation_class_map": ["Dandelion"]}))
    assert run(*given) == 1
    assert "has no label 'Fat hen'" in capsys.readouterr().err


def test_images_of_the_share_are_not_uploaded(world: Path, server: StandIn) -> None:
    root = world / "weed_data"
    server.world.share |= {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*.png")}
    assert run("--upload_pkl", "True", "--share", "--yes") == 0
    assert run(*PICKLE, "--share", "/weed_data", "--yes") == 0
    assert not any("Upload" in path for _, path in server.log)
    assert {shape["image"].split("/")[0] for shape in stored_shapes(server)} == {"fielddata"}


def test_frames_that_cannot_be_read_are_told__and_none_at_all_is_an_error(
    world: Path, server: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((world / "weed_data").rglob("*.png"))
    files[0].unlink()
    assert run(*PICKLE) == 3
    assert "1 frames cannot be read and were not judged: image 'fielddata" in capsys.readouterr().out
    for file in files[1:]:
        file.unlink()
    assert run(*PICKLE) == 1
    assert "not one of the 6 frames can be read: image" in capsys.readouterr().err
    assert run("--upload_pkl", "True", "--yes") == 1
    assert "6 images cannot be read" in capsys.readouterr().err
    assert server.writes == []


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["A 1", "A_1", "gt_A_1"], ["A 1"]),
        (["A_1", "gt_A_1"], ["A_1"]),
        (["gt_val_A_1", "BA 1", "A 11"], ["gt_val_A_1"]),
        (["gt_A_1", "other A 1"], ["gt_A_1", "other A 1"]),
        (["B"], []),
    ],
)
def test_a_task_is_found_as_upstream_wrote_names(names: list[str], found: list[str]) -> None:
    assert named(names, "A 1") == found
