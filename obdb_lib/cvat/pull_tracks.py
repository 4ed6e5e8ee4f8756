"""Tracks: their keyframes, and the boxes that CVAT draws between those."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from obdb_lib.cvat.pull_answers import Shape, Track
from obdb_lib.errors import CvatError

KEYFRAMES, LINEAR = "keyframes", "linear"
TRACK_WAYS = (KEYFRAMES, LINEAR)


def require_way(tracks: str) -> None:
    """Raises CvatError when ``tracks`` is no way to read tracks."""
    if tracks not in TRACK_WAYS:
        raise CvatError(f"tracks={tracks!r} is not known: wanted {' or '.join(map(repr, TRACK_WAYS))}")


def shapes_of_tracks(tracks: Iterable[Track], way: str, last_frame: Callable[[int], int]) -> Iterator[Shape]:
    """Shapes of tracks, each with its track's id, label, source and attributes.

    Args:
        way: KEYFRAMES (only what a person set), or LINEAR: also what CVAT draws on the frames between keyframes, and
            after the last one to the end of its job. Rectangles move in a straight line and turn the short way;
            anything else stays as its keyframe was, as do shapes whose next keyframe is outside.
        last_frame: the frame at which the job of a frame ends.
    """
    for track in tracks:
        keyframes = sorted(track.shapes, key=lambda shape: shape.frame)
        for number, keyframe in enumerate(keyframes):
            yield _of(track, keyframe)
            if way == LINEAR and not keyframe.outside:
                following = keyframes[number + 1] if number + 1 < len(keyframes) else None
                yield from (_of(track, shape) for shape in _between(keyframe, following, last_frame))


def _of(track: Track, shape: Shape) -> Shape:
    own = {attribute.spec_id: attribute for attribute in (*track.attributes, *shape.attributes)}
    update = {"label_id": track.label_id, "source": track.source, "track": track.id, "attributes": list(own.values())}
    return shape.model_copy(update=update)


def _between(first: Shape, second: Shape | None, last_frame: Callable[[int], int]) -> Iterator[Shape]:
    stop = last_frame(first.frame) + 1 if second is None else second.frame
    moves = second is not None and not second.outside and _is_box(first) and _is_box(second)
    for frame in range(first.frame + 1, stop):
        update: dict[str, object] = {"id": None, "frame": frame}
        if moves and second is not None:
            share = (frame - first.frame) / (second.frame - first.frame)
            update |= {
                "points": _mixed(first.points, second.points, share),
                "rotation": _turned(first.rotation or 0.0, second.rotation or 0.0, share),
            }
        yield first.model_copy(update=update)


def _is_box(shape: Shape) -> bool:
    return shape.type == "rectangle" and len(shape.points) == 4


def _mixed(first: Sequence[float], second: Sequence[float], share: float) -> list[float]:
    return [a + (b - a) * share for a, b in zip(first, second, strict=True)]


def _turned(first: float, second: float, share: float) -> float:
    difference = (second - first + 180.0) % 360.0 - 180.0
    return (first + difference * share) % 360.0
