"""What is filmed: sessions, cameras and videos with upstream's names, and how weedy each place is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from obdb_lib.errors import DatasetError
from obdb_lib.sample.camera import Camera
from obdb_lib.sample.soil import Ground
from obdb_lib.sample.species import WEEDS
from obdb_lib.sample.strip import Light

IMAGE_FOLDER = "fielddata/tractor-32-cropped"
FRAME_STEP = 5
"""Video frames between two annotated ones, as between key frames."""
MIN_WIDTH, MIN_HEIGHT = 160, 90


@dataclass(frozen=True)
class SampleSize:
    """How much to draw.

    Raises:
        DatasetError: fewer than one task or frame, or frames too small to show a plant.
    """

    tasks: int
    frames_per_task: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.tasks < 1 or self.frames_per_task < 1:
            raise DatasetError(
                f"a sample needs at least one task of one frame; got {self.tasks} of {self.frames_per_task} frames"
            )
        if self.width < MIN_WIDTH or self.height < MIN_HEIGHT:
            raise DatasetError(
                f"sample frames must be at least {MIN_WIDTH} x {MIN_HEIGHT} pixels; got {self.width} x {self.height}"
            )

    @property
    def plant_scale(self) -> float:
        """Pixels drawn per pixel of a 960 px wide frame; small frames show fewer but relatively larger plants."""
        return float((self.width / 960) ** 0.7)


DEFAULT_SIZE = SampleSize(tasks=9, frames_per_task=36, width=960, height=540)
TINY_SIZE = SampleSize(tasks=6, frames_per_task=8, width=320, height=180)
"""For tests: three sessions, three cameras, seconds to draw."""


@dataclass(frozen=True)
class Session:
    """One recording day: name, soil, light and how far the plants have grown."""

    name: str
    ground: Ground
    light: Light
    growth: float


@dataclass(frozen=True)
class Recording:
    """One task to film. ``weediness`` by class name, ``gaps`` the share of the crop that is missing."""

    number: int
    session: Session
    camera: Camera
    video: str
    weediness: dict[str, float]
    gaps: float
    first_frame: int

    @property
    def task_name(self) -> str:
        return f"FieldData {self.session.name} {self.camera.name} {self.video}"

    def img_path(self, index: int) -> str:
        """Upstream's path of the ``index``-th frame."""
        frame = self.first_frame + FRAME_STEP * index
        return f"{IMAGE_FOLDER}/{self.session.name}/{self.camera.name}/{self.video}/{self.video}frame{frame:04d}.jpg"


SESSIONS = (
    Session(
        "20220518093012",
        Ground((0.47, 0.385, 0.305), damp=0.24, cloddiness=1.0, wheel_marks=False, straw=1.0),
        Light((0.8, -0.6), shadow=12, softness=2.0, sun=(0.74, 0.71, 0.65), sky=(0.36, 0.38, 0.43), relief=0.50),
        growth=1.05,
    ),
    Session(
        "20220601104530",
        Ground((0.43, 0.37, 0.31), damp=0.34, cloddiness=0.75, wheel_marks=True, straw=0.5),
        Light((0.3, -0.95), shadow=4, softness=9.0, sun=(0.30, 0.30, 0.30), sky=(0.63, 0.66, 0.70), relief=0.60),
        growth=1.15,
    ),
    Session(
        "20220615192414",
        Ground((0.48, 0.385, 0.295), damp=0.15, cloddiness=1.25, wheel_marks=False, straw=1.8),
        Light((-0.96, -0.28), shadow=26, softness=2.6, sun=(0.86, 0.70, 0.48), sky=(0.30, 0.31, 0.37), relief=0.62),
        growth=1.3,
    ),
)
CAMERAS = (
    Camera("1L", 0.0, (1.0, 1.0, 1.0), 1.0, 1.05, 0.18, blur=0.45, noise=3.0, motion=1.5, step=0.22),
    Camera("1R", 0.05, (1.05, 1.0, 0.93), 0.92, 0.95, 0.34, blur=0.7, noise=4.5, motion=3.0, step=0.26),
    Camera("3R", 0.09, (0.94, 1.0, 1.06), 1.08, 1.12, 0.26, blur=0.3, noise=2.5, motion=2.5, step=0.24),
)
ABUNDANCE = (0.56, 0.30, 0.16, 0.06)
"""How many weeds of the most to the least frequent species of a task stand on ``PX_PER_WEED`` of ground."""


def plan_recordings(seed: int, size: SampleSize) -> list[Recording]:
    """The tasks of a sample: sessions and cameras in turn; each weed is plentiful in some places and rare in others."""
    rng = np.random.default_rng([seed, 1_000_003])
    turn = rng.permutation(len(WEEDS))
    recordings = []
    for number in range(size.tasks):
        session = number % len(SESSIONS)
        camera = (number // len(SESSIONS) + session) % len(CAMERAS)
        take, place = divmod(number, len(SESSIONS) * len(CAMERAS))
        video = f"GH{take + 1:02d}{68 + 7 * session + place // 3:04d}"
        amounts = {
            WEEDS[turn[rank]].name: ABUNDANCE[(rank + number) % len(ABUNDANCE)] * rng.uniform(0.75, 1.3)
            for rank in range(len(WEEDS))
        }
        recordings.append(
            Recording(
                number,
                SESSIONS[session],
                CAMERAS[camera],
                video,
                amounts,
                gaps=float(rng.uniform(0.08, 0.45)),
                first_frame=17 + 12 * (number % 5),
            )
        )
    return recordings
