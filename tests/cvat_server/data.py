"""Media of a task: upload, background reading, data/meta and single frames."""

from __future__ import annotations

import io
import re
from datetime import datetime
from pathlib import PurePosixPath

from PIL import Image, UnidentifiedImageError

from . import render
from .answers import Answer, Refusal, as_json, empty, forbidden, refuse, server_error, text
from .request import Request
from .tasks import find_task
from .world import Background, Data, Frame, Job, Task, World

NO_REQUEST = "There is no request with specified id"
NO_DATA = ["Data is not uploaded for the task yet"]


def upload(request: Request, number: str) -> Answer:
    """Either everything in one multipart body, or Upload-Start, Upload-Multiple..., Upload-Finish as the SDK does."""
    task = find_task(request, number)
    if task.data is not None and task.data.submitted:
        raise refuse(["Adding more data is not supported"])
    data = task.data or Data(0, request.world.now())
    if "upload-start" in request.headers:
        _keep(request.world, task, data)
        return empty(202)
    if "multipart/form-data" in request.content_type:
        _take_files(request, data)
        given = {part.name: part.content.decode() for part in request.parts() if not part.filename}
    else:
        given = request.json()
        # Of a mounted share nothing was recorded; as documented, paths in it become the frames' names.
        data.uploads |= {name: request.world.share.get(name) for name in given.get("server_files", [])}
    _keep(request.world, task, data)
    if "upload-multiple" in request.headers:
        return empty(200)
    data.image_quality = int(given.get("image_quality", data.image_quality))
    data.sorting = str(given.get("sorting_method", data.sorting))
    data.submitted = True
    task.updated = request.world.now()
    return as_json({"rq_id": _submit(request, task, data)}, 202)


def _keep(world: World, task: Task, data: Data) -> None:
    data.id = data.id or world.next_id("data")
    task.data = data


def _take_files(request: Request, data: Data) -> None:
    """Only base names are kept; two of the same name break the server."""
    for part in request.parts():
        if not part.filename:
            continue
        name = PurePosixPath(part.filename).name
        if name in data.uploads:
            raise Refusal(server_error())
        data.uploads[name] = part.content


def _submit(request: Request, task: Task, data: Data) -> str:
    world = request.world
    number = f"action=create&target=task&target_id={task.id}"
    world.requests[number] = Background(
        number, task.id, task.project_id, request.user, world.now(), lambda: _read_files(world, task, data)
    )
    return number


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", name) if piece]


def _read_files(world: World, task: Task, data: Data) -> None:
    """What the background worker does; its exceptions become the request's message."""
    if not data.uploads:
        raise ValueError("No media data found")
    names = sorted(data.uploads) if data.sorting == "lexicographical" else list(data.uploads)
    if data.sorting == "natural":
        names = sorted(names, key=_natural)
    frames = []
    for name in names:
        content = data.uploads[name]
        if content is None:
            raise ValueError(f"No such file or directory: '/home/django/share/{name}'")
        try:
            with Image.open(io.BytesIO(content)) as image:
                frames.append(Frame(name, *image.size, content, Image.MIME[image.format or "PNG"]))
        except UnidentifiedImageError as error:
            path = f"/srv/cvat/data/{data.id}/raw/{name}"
            raise UnidentifiedImageError(f"cannot identify image file '{path}'") from error
    data.frames = frames
    task.overlap = task.overlap or 0
    task.segment_size = task.segment_size or len(frames)
    for start in range(0, len(frames), task.segment_size):
        stop = min(start + task.segment_size, len(frames)) - 1
        now = world.now()
        job = Job(world.next_id("job"), task.id, start, stop, now, now)
        world.jobs[job.id] = job
    task.updated = world.now()


def _step(found: Background, now: datetime) -> None:
    found.polls += 1
    if found.status in ("finished", "failed") or found.polls == 1:
        return
    if found.polls == 2:
        found.status, found.started = "started", now
        return
    try:
        found.work()
        found.status = "finished"
    except (ValueError, UnidentifiedImageError) as error:
        kind = type(error)
        module = "" if kind.__module__ == "builtins" else "PIL."
        found.status, found.message = "failed", f"{module}{kind.__name__}: {error}\n"
    found.finished = now


def get_request(request: Request, number: str) -> Answer:
    """State of a background request; asking moves it on, from queued over started to its end."""
    found = request.world.requests.get(number)
    if found is None:
        raise Refusal(text(NO_REQUEST, 404))
    if not (request.user.superuser or found.owner is request.user):
        raise forbidden()
    _step(found, request.world.now())
    return as_json(render.background(found))


def list_requests(request: Request) -> Answer:
    items = [item for item in request.world.requests.values() if request.user.superuser or item.owner is request.user]
    if "action" in request.query and request.query["action"] != "create":
        items = []
    items = request.filtered(items, ("status", "task_id"))
    items.sort(key=lambda item: item.created, reverse=True)
    return request.paged(items, render.background)


def _ready(request: Request, number: str) -> Task:
    task = find_task(request, number)
    if not task.ready:
        raise refuse(NO_DATA)
    return task


def get_meta(request: Request, number: str) -> Answer:
    return as_json(render.meta(_ready(request, number)))


def patch_meta(request: Request, number: str) -> Answer:
    task = _ready(request, number)
    assert task.data is not None
    task.data.deleted = list(request.json().get("deleted_frames", task.data.deleted))
    return as_json(render.meta(task))


def get_frame(request: Request, number: str) -> Answer:
    task = _ready(request, number)
    assert task.data is not None
    frames = task.data.frames
    if request.query.get("type") != "frame" or not request.query.get("number", "").isdigit():
        raise refuse(["Data type not specified or has wrong value"])
    wanted = int(request.query["number"])
    if wanted >= len(frames):
        raise refuse(f"Invalid frame '{wanted}'. The frame number should be in the [0, {len(frames)}] range")
    return Answer(200, frames[wanted].content, frames[wanted].mime)
