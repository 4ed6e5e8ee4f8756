"""Pascal VOC: an XML file an image in ``Annotations/``, lists of images in ``ImageSets/Main/``. Reader and writer.

Coordinates are kept as written, not shifted: CVAT, labelImg and most others count pixels from 0, VOC's own tools did
from 1. ``labelmap.txt`` (as CVAT writes it) holds the labels with their colours. Tasks are told by our own mark in
``<source>``; files of others are grouped as images are that name no task. Source: host.robots.ox.ac.uk/pascal/VOC.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from obdb_lib.errors import FormatError
from obdb_lib.formats import _shared
from obdb_lib.formats._attributes import named_attributes
from obdb_lib.formats._file_names import label_path, unique_files
from obdb_lib.formats._grouping import group_by_task
from obdb_lib.formats._losses import losses
from obdb_lib.formats._safe_xml import legal, parse, root_of
from obdb_lib.formats._voc_labels import LABEL_MAP, label_map_text, read_label_map
from obdb_lib.formats._whole_folder import put, whole_folder
from obdb_lib.records import Document, Problem, ReadResult, TaskRecord, bounding_box, make_annotation, make_task

FOLDER = "Annotations"
IMAGE_SET = Path("ImageSets") / "Main" / "default.txt"
IMAGE_FOLDER = "JPEGImages"
OUR_MARK = "OBDB Lab"
HOLDS = ("occluded", "attributes", "colour")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
FLAGS = ("truncated", "difficult", "pose")
"""Fields of VOC that are kept as attributes when they say something."""


def is_voc(path: Path) -> bool:
    """Whether an XML file's first element is VOC's <annotation>."""
    return root_of(path) == "annotation"


def find_files(folder: Path) -> list[Path]:
    """XML files of a VOC folder: those below ``Annotations``, else those of the folder itself that are VOC's."""
    below = folder / FOLDER
    found = sorted(below.rglob("*.xml")) if below.is_dir() else sorted(folder.glob("*.xml"))
    return [path for path in found if path.is_file() and is_voc(path)]


def read(path: Path, *, image_root: Path | None = None) -> ReadResult:
    """Tasks of a VOC folder, or of one of its files; an image without objects is kept as a negative.

    Args:
        path: the folder (with ``Annotations/``, or with the XML files themselves) or one XML file.
        image_root: folder of the images, looked at only for files without a <size>.

    Returns:
        Tasks not yet checked by ``records.check_task``, and what was set aside: malformed files among others, objects
        without a name or a box, parts and actions of objects.

    Raises:
        FormatError: there is no VOC file, or the only one is malformed.
    """
    folder = path if path.is_dir() else path.parent
    files = find_files(path) if path.is_dir() else [path]
    if not files:
        raise FormatError(f"{path} holds no VOC file: wanted XML with the root <annotation>, also in {FOLDER}/.")
    result = ReadResult()
    documents: dict[int, tuple[Path, Element]] = {}
    for number, file in enumerate(_in_order(files, folder)):
        try:
            documents[number] = (file, _document(file))
        except FormatError as error:
            if len(files) == 1:
                raise
            result.problems.append(Problem(file.name, f"set aside: {error}"))
    images: dict[int, tuple[str, int, int, str]] = {}
    for number, (file, root) in documents.items():
        image = _image(root, file, folder, image_root or folder)
        if isinstance(image, str):
            result.problems.append(Problem(file.name, image))
        else:
            images[number] = image
    result.tasks = _tasks(images, documents, folder, files[0], result.problems)
    return result


def _document(file: Path) -> Element:
    root = parse(_shared.read_bytes(file), file)
    if root.tag != "annotation":
        raise FormatError(f"{file} is not VOC: wanted the root <annotation>, got <{root.tag[:60]}>.")
    return root


def _in_order(files: list[Path], folder: Path) -> list[Path]:
    """Files in the order of the writer's image set; the others after them, by name."""
    listed = folder / IMAGE_SET
    if not listed.is_file():
        return files
    lines = _shared.decode_text(_shared.read_bytes(listed, may_be_empty=True), listed).split("\n")
    order = {name.removesuffix("\r"): number for number, name in enumerate(lines)}
    last = len(order)

    def place(file: Path) -> int:
        top = folder / FOLDER
        name = file.relative_to(top).as_posix() if file.is_relative_to(top) else file.name
        return order.get(name.removesuffix(".xml"), last)

    return sorted(files, key=place)


def _image(root: Element, file: Path, folder: Path, image_root: Path) -> tuple[str, int, int, str] | str:
    """(name, width, height, task or ""), or why the file is set aside."""
    name = (root.findtext("filename") or "").strip() if not _ours(root) else root.findtext("filename") or ""
    if not name:
        return "set aside: it names no image (<filename>)"
    if not _ours(root) and file.is_relative_to(folder / FOLDER):
        above = file.parent.relative_to(folder / FOLDER).as_posix()
        name = name if above == "." or "/" in name else f"{above}/{name}"
    wide, high = (_shared.number_of((root.findtext(f"size/{key}") or "").strip()) for key in _SIDES)
    found = _shared.frame_size(wide, high, name, image_root)
    if found is None:
        found = _shared.image_size(f"{IMAGE_FOLDER}/{name}", image_root)
    if found is None:
        return f"set aside: {name!r} has no <size>, and its image is not there"
    return name, *found, (root.findtext("source/database") or "") if _ours(root) else ""


_SIDES = ("width", "height")


def _ours(root: Element) -> bool:
    return root.findtext("source/annotation") == OUR_MARK


def _tasks(
    images: dict[int, tuple[str, int, int, str]],
    documents: dict[int, tuple[Path, Element]],
    folder: Path,
    first: Path,
    problems: list[Problem],
) -> list[TaskRecord]:
    groups = group_by_task({key: (image[0], image[3]) for key, image in images.items()}, folder.resolve().name)
    listed = read_label_map(folder, problems)
    classes = sorted({name for key in images for one in documents[key][1].iterfind("object") if (name := _name(one))})
    labels = [label["name"] for label in listed]
    labels += [name for name in classes if name not in labels]
    colours = {label["name"]: label["color"] for label in listed}
    date = _shared.file_date(first)
    tasks = []
    for task_name, keys in groups.items():
        frames = {images[key][0]: images[key][1:3] for key in keys}
        record = make_task(task_name, labels, [(name, *size) for name, size in frames.items()], created=date)
        for label in record.task["labels"]:
            label["color"] = colours.get(label["name"], "")
        order = {name: number for number, name in enumerate(frames)}
        for key in keys:
            file, root = documents[key]
            for number, element in enumerate(root.iterfind("object")):
                where = f"{file.name}, object {number}"
                _add_object(record, order[images[key][0]], element, where, problems)
        tasks.append(record)
    return tasks


def _name(element: Element) -> str:
    return element.findtext("name") or ""


def _add_object(record: TaskRecord, frame: int, element: Element, where: str, problems: list[Problem]) -> None:
    corners = [_shared.number_of((element.findtext(f"bndbox/{key}") or "").strip()) for key in CORNERS]
    points = [value for value in corners if value is not None]
    if not _name(element) or len(points) != len(corners):
        problems.append(Problem(where, "set aside: needs a <name> and a <bndbox> of four finite numbers"))
        return
    for more in ("part", "actions"):
        if element.find(more) is not None:
            problems.append(Problem(where, f"its <{more}> is left out; the box is kept"))
    document = make_annotation(
        record, frame, _name(element), points, occluded=(element.findtext("occluded") or "").strip() == "1"
    )
    attributes = {
        item.findtext("name") or "": item.findtext("value") or "" for item in element.iterfind("attributes/attribute")
    }
    for flag in FLAGS:
        value = (element.findtext(flag) or "").strip()
        if value not in ("", "0", "Unspecified", "unspecified"):
            attributes.setdefault(flag, value)
    if attributes:
        document["attributes"] = attributes
    record.annotations.append(document)


def write(tasks: Sequence[TaskRecord], folder: Path) -> list[Problem]:
    """Write ``Annotations/``, ``ImageSets/Main/default.txt`` and ``labelmap.txt``; images are not copied.

    Args:
        folder: must not exist, or be empty; it appears whole or not at all.

    Returns:
        What the format cannot hold.

    Raises:
        FormatError: the folder holds something, or a name holds a character that XML cannot.
        CacheError: a file cannot be written.
    """
    problems = losses(tasks, "VOC", HOLDS)
    places = [(task, number, frame) for task in tasks for number, frame in enumerate(task.meta["frames"])]
    files = _files([frame["name"] for _, _, frame in places])
    drawn: dict[tuple[str, int], list[Document]] = {}
    for task in tasks:
        for one in task.annotations:
            drawn.setdefault((task.name, int(one["frame"])), []).append(one)
    with whole_folder(folder) as target:
        for file, (task, number, frame) in zip(files, places, strict=True):
            root = _written(task, frame, drawn.get((task.name, number), []))
            put(target / FOLDER / f"{file}.xml", tostring(root, encoding="utf-8"))
        put(target / IMAGE_SET, "".join(f"{file}\n" for file in files))
        put(target / LABEL_MAP, label_map_text(tasks, problems))
    return problems


def files_of(tasks: Sequence[TaskRecord]) -> dict[str, str]:
    """Image file below IMAGE_FOLDER of each frame, by its name."""
    names = [str(frame["name"]) for task in tasks for frame in task.meta["frames"]]
    return dict(reversed(list(zip(names, _image_files(names), strict=True))))  # of two places the first one's


def _files(names: Sequence[str]) -> list[str]:
    """A file (without ending) for each place, also for an image that stands in two tasks."""
    return [label_path(file) for file in _image_files(names)]


def _image_files(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    keyed = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        keyed.append(name if seen[name] == 1 else f"{name}{seen[name]}")
    files = unique_files(keyed)
    return [files[key] for key in keyed]


def _written(task: TaskRecord, frame: Document, annotations: Sequence[Document]) -> Element:
    root = Element("annotation")
    SubElement(root, "folder").text = ""
    SubElement(root, "filename").text = legal(frame["name"])
    source = SubElement(root, "source")
    SubElement(source, "database").text = legal(task.name)
    SubElement(source, "annotation").text = OUR_MARK
    size = SubElement(root, "size")
    for key in _SIDES:
        SubElement(size, key).text = str(frame[key] or 0)
    SubElement(size, "depth").text = "3"
    SubElement(root, "segmented").text = "0"
    for one in annotations:
        element = SubElement(root, "object")
        SubElement(element, "name").text = legal(one["object_class"])
        attributes = named_attributes(one, task)
        for flag, default in (("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
            SubElement(element, flag).text = legal(attributes.get(flag, default))
        SubElement(element, "occluded").text = "1" if one.get("occluded") else "0"
        box = SubElement(element, "bndbox")
        for key, value in zip(CORNERS, bounding_box(one["points"]), strict=True):
            SubElement(box, key).text = repr(float(value))
        if attributes:
            parent = SubElement(element, "attributes")
            for name, text in attributes.items():
                described = SubElement(parent, "attribute")
                SubElement(described, "name").text = legal(name)
                SubElement(described, "value").text = legal(text)
    return root
