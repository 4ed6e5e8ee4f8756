"""Images that lie in the share of the CVAT server are named and not uploaded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from obdb_lib.cvat.client import CvatClient, NoAnswerError
from obdb_lib.cvat.push import PushPlan, Share, send
from obdb_lib.errors import CvatError
from tests.cvat_server import Fault, StandIn
from tests.cvat_server.helpers import (
    MemoryJournal,
    log_in,
    stored_shapes,
    two_frame_plan,
)

NOON = datetime(2026, 5, 20, 12, 0, 1, tzinfo=UTC)
SHAPES = r"annotations\?action=create"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as found:
        yield found


@pytest.fixture
def client(server: StandIn) -> CvatClient:
    return log_in(server)


@pytest.fixture
def plan(tmp_path: Path) -> PushPlan:
    return two_frame_plan(tmp_path / "images", now=NOON)


@pytest.mark.parametrize("below", ["", "field/2026"])
def test_push__images_of_a_share_are_named_and_not_uploaded(
    server: StandIn, client: CvatClient, plan: PushPlan, tmp_path: Path, below: str
) -> None:
    root = tmp_path / "images"
    names = {frame.img_path: f"{below}/{frame.img_path}".lstrip("/") for task in plan.tasks for frame in task.frames}
    server.world.share |= {name: (root / img_path).read_bytes() for img_path, name in names.items()}
    send(plan, client, journal=MemoryJournal(), confirm=True, share=Share({root: below}))
    there = {frame.name for task in server.world.tasks.values() if task.data for frame in task.data.frames}
    assert there == set(names.values())
    assert {(shape["image"], *shape["points"]) for shape in stored_shapes(server)} == {
        (names[shape.img_path], *shape.points) for task in plan.tasks for shape in task.shapes
    }
    assert not any("Upload" in path for _, path in server.log)
    assert sum(path.endswith("/data/") for _, path in server.writes) == 2


def test_push__begun_with_uploads_goes_on_with_a_share(
    server: StandIn, client: CvatClient, plan: PushPlan, tmp_path: Path
) -> None:
    journal = MemoryJournal()
    server.faults.append(Fault("PATCH", SHAPES, kind="drop_before"))
    with pytest.raises(NoAnswerError):
        send(plan, client, journal=journal, confirm=True)
    root = tmp_path / "images"
    server.world.share |= {"day/1L/GH2/img2.png": (root / "day/1L/GH2/img2.png").read_bytes()}
    send(plan, client, journal=journal, confirm=True, share=Share({root: ""}))
    assert len(stored_shapes(server)) == 4


def test_push__a_share_that_the_server_does_not_see(
    server: StandIn, client: CvatClient, plan: PushPlan, tmp_path: Path
) -> None:
    with pytest.raises(CvatError, match=r"No such file.*Does the server have these files in its share"):
        send(plan, client, journal=MemoryJournal(), confirm=True, share=Share({tmp_path / "images": ""}))
    assert server.world.tasks == {}


def test_share__which_files_it_has(tmp_path: Path) -> None:
    share = Share({tmp_path: "all", tmp_path / "near": ""})
    assert share.server_file(tmp_path / "a" / "x.png") == "all/a/x.png"
    assert share.server_file(tmp_path / "near" / "x.png") == "x.png"
    assert share.server_file(tmp_path / "near" / ".." / "x.png") is None
    assert share.server_file(Path("/elsewhere/x.png")) is None
    assert share.server_file(tmp_path / ("long" * 300)) is None
    with pytest.raises(CvatError, match=r"'\.\./etc' for .* leads out of the share"):
        Share({tmp_path: "../etc"})


def test_share__all_images_or_none(plan: PushPlan, tmp_path: Path) -> None:
    frames = plan.tasks[0].frames
    folder = tmp_path / "images" / "day" / "1L"
    assert list(Share({folder: ""}).server_files(frames).values()) == ["GH1/img10.png", "GH1/img2.png"]
    assert Share({frames[0].file: ""}).server_files(frames) == {}
    assert Share({folder: ""}, least_frames=3).server_files(frames) == {}
