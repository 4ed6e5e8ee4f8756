"""The form of what a pull reads from a server, checked before anything is made of it.

Numbers that no database can hold and values of another kind are told as one sentence; what a form does not name is
left out.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from obdb_lib.errors import CvatError

Number = Annotated[int, Field(ge=0, lt=2**63)]
Side = Annotated[int, Field(ge=0, lt=2**31)]
FrameNumber = Annotated[int, Field(ge=0, lt=5_000_000)]
"""No task is longer: two days of video. A list is made of every frame that a server declares."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, BeforeValidator(str)]
Form = TypeVar("Form", bound=BaseModel)


class Attribute(BaseModel):
    """A value that an annotator gave."""

    spec_id: Number
    value: Text


class Shape(BaseModel):
    """A shape; ``track`` is the id of the track that it is a keyframe of, or that it was drawn from."""

    type: str
    frame: FrameNumber
    points: list[float] = []
    id: Number | None = None
    label_id: Number = 0
    rotation: Finite | None = 0.0
    occluded: bool = False
    outside: bool = False
    source: str = "manual"
    score: Finite = 1.0
    attributes: list[Attribute] = []
    track: Number | None = None


class Track(BaseModel):
    """An object through several frames; its shapes are keyframes, which have no label of their own."""

    label_id: Number
    frame: FrameNumber
    shapes: list[Shape]
    id: Number | None = None
    source: str = "manual"
    attributes: list[Attribute] = []


class Tag(BaseModel):
    """A label of a whole frame."""

    label_id: Number
    frame: FrameNumber
    attributes: list[Attribute] = []


class Annotations(BaseModel):
    """All annotations of a task or job."""

    shapes: list[Shape]
    tracks: list[Track] = []
    tags: list[Tag] = []


class Frame(BaseModel):
    """A frame of ``data/meta``."""

    name: str
    width: Side
    height: Side


class Meta(BaseModel):
    """``data/meta``: of a video there is one entry in ``frames`` for ``size`` frames."""

    frames: list[Frame]
    size: FrameNumber | None = None
    deleted_frames: list[Number] | None = None


class ListedTask(BaseModel):
    """What a pull needs of a task in a list."""

    id: Number
    name: str
    size: FrameNumber | None = None
    project_id: Number | None = None


class ListedJob(BaseModel):
    """What a pull needs of a job in a list."""

    id: Number
    task_id: Number
    start_frame: FrameNumber
    stop_frame: FrameNumber
    state: str
    stage: str


class Label(BaseModel):
    """A label of a task or project."""

    id: Number
    name: str
    color: str | None = ""
    attributes: list[dict[str, Any]] = []


def checked(form: type[Form], answer: object, where: str) -> Form:
    """``answer`` in its form; bytes are JSON.

    Args:
        where: what was asked for, for the error.

    Raises:
        CvatError: it has another form; the first places are named.
    """
    try:
        return form.model_validate_json(answer) if isinstance(answer, bytes) else form.model_validate(answer)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[:3]
        told = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'as a whole'}: {one['msg']}" for one in first)
        raise CvatError(
            f"{where}: the answer has not the form that CVAT gives it ({told}). Nothing of this task was changed; run "
            "this step again, and look at the task on CVAT if it stays."
        ) from None
