"""Parameters of the notebooks: read from their parameters cells, given as text, checked by name and type."""

from __future__ import annotations

import ast
import difflib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from obdb_lib import paths
from obdb_lib.errors import BatchError, SettingsError
from obdb_lib.settings import Settings
from obdb_lib.stages import STAGES

OWN_PARAMETERS = {"INTERACTIVE": "a batch has no widgets", "RUN_DIR": "choose the folder with --out"}
"""What the batch gives to every notebook itself, and what to do instead."""
PATH_PARAMETERS = (
    *("DATA", "IMAGE_ROOTS", "SETTINGS", "CHECKPOINT", "COMPARE_WITH", "GIVEN", "MANIFEST"),
    *("DECISIONS", "BLANK_FOLDERS"),
)
ELEMENTS: Mapping[str, type] = {"FIX_SEEDS": int}
"""What the lists hold whose default is empty and does not tell; others hold names or paths."""
BY_CLASS = ("TARGET_PRECISION",)
"""Numbers that may also be given class by class, ``{'Fat hen': 0.9}``."""
STORE = "store"
"""DATA of notebook 1 that means what the database holds already; a folder of that name is ``./store``."""
SETTINGS_STAGE = STAGES[2]
PAIRS = re.compile(r"""(?:[^\s"'\[\]]|"[^"]*"|'[^']*'|\[(?:[^\]"']|"[^"]*"|'[^']*')*\])+""")
"""One NAME=VALUE: spaces may stand in quotes and brackets. Unlike a shell's, the quotes stay: a list needs them."""


def given_parameters(data: str, pairs: str, single: Sequence[str]) -> dict[str, object]:
    """Notebook parameters of the command line, values still as text.

    Args:
        data: folder or file with annotations, ``store``, or "".
        pairs: several NAME=VALUE in one text (``SET`` of ``make batch``).
        single: one NAME=VALUE each.

    Raises:
        BatchError: no NAME=VALUE, an open quote, or a data folder that is not there.
    """
    if left := PAIRS.sub("", pairs).strip():
        raise BatchError(f"a quote or bracket in {pairs!r} is not closed: {left[:40]!r} is left over")
    parameters: dict[str, object] = {}
    for text in [*(_unquoted(pair) for pair in PAIRS.findall(pairs)), *single]:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BatchError(
                f"a parameter is set by NAME=VALUE; got {text!r}. A value with spaces needs quotes: NAME='two words'"
            )
        parameters[name] = value
    if data == STORE:
        parameters["DATA"] = STORE
    elif data:
        path = Path(data).expanduser().resolve()
        if not path.exists():
            raise BatchError(f"DATA {data!r} does not exist (looked for {path})")
        parameters["DATA"] = str(path)
    return parameters


def check_parameters(
    parameters: Mapping[str, object], stages: Sequence[str], notebooks: Path
) -> dict[str, dict[str, object]]:
    """Parameters for each notebook, typed as in its parameters cell.

    Relative paths that exist here become absolute, and the settings file that notebook 3 would read is read.

    Raises:
        BatchError: listing every mistake.
    """
    defaults = {stage: notebook_parameters(notebooks / f"{stage}.ipynb") for stage in stages}
    known = sorted({name for names in defaults.values() for name in names} - set(OWN_PARAMETERS))
    mistakes = []
    chosen: dict[str, dict[str, object]] = {stage: {} for stage in stages}
    for name, value in parameters.items():
        if name in OWN_PARAMETERS:
            mistakes.append(f"parameter {name} is set by the batch itself; {OWN_PARAMETERS[name]}")
        elif name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
            mistakes.append(f"unknown parameter {name!r}{hint}")
        for stage in stages if name in known else ():
            if name in defaults[stage]:
                try:
                    typed = _as_type_of(name, value, defaults[stage][name])
                    chosen[stage][name] = _from_here(typed) if name in PATH_PARAMETERS else typed
                except ValueError as error:
                    mistakes.append(f"parameter {name} {error}")
    if SETTINGS_STAGE in stages:
        settings = {**defaults[SETTINGS_STAGE], **chosen[SETTINGS_STAGE]}.get("SETTINGS")
        try:
            if isinstance(settings, str):
                Settings.load(paths.locate(settings))
        except SettingsError as error:
            mistakes.append(f"parameter SETTINGS: {error}")
    if mistakes:
        raise BatchError("nothing was run:\n- " + "\n- ".join(dict.fromkeys(mistakes)))
    return chosen


def _from_here(value: object) -> object:
    """A path, ``part=path``, or a list of these, absolute where it exists in this folder; notebooks have another."""
    if isinstance(value, list):
        return [_from_here(item) for item in value]
    if not isinstance(value, str) or value in ("", STORE):
        return value
    try:
        path = Path(value).expanduser()
        if path.exists():
            return str(path.resolve())
        part, equals, name = value.partition("=")
        return f"{part}={Path(name).expanduser().resolve()}" if equals and Path(name).expanduser().exists() else value
    except (OSError, RuntimeError, ValueError):
        return value  # no usable path: the notebook says so with its own words


def notebook_parameters(path: Path) -> dict[str, object]:
    """Names and default values in a notebook's parameters cell (plain literals).

    Raises:
        BatchError: the notebook is missing or has no such cell.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError) as error:
        raise BatchError(f"{path} is not a notebook that can be read: {error}") from error
    for cell in cells:
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            body = ast.parse("".join(cell["source"])).body
            return {
                target.id: ast.literal_eval(statement.value)
                for statement in body
                if isinstance(statement, ast.Assign)
                for target in statement.targets
                if isinstance(target, ast.Name)
            }
    raise BatchError(f"{path} has no cell tagged 'parameters'")


def _as_type_of(name: str, value: object, default: object) -> object:
    if isinstance(default, list):
        return _list_of(_element(name, default), value)
    if isinstance(value, str):
        value = _from_text(value, default)
    if name in BY_CLASS and isinstance(value, dict):
        return {str(key): _number(float, item) for key, item in value.items()}
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise ValueError(f"wants {type(default).__name__} such as {default!r}; got {type(value).__name__} {value!r}")
    return value


def _from_text(text: str, default: object) -> object:
    if isinstance(default, str):
        return _unquoted(text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(f"wants {type(default).__name__} such as {default!r}; got {text!r}") from error


def _element(name: str, default: Sequence[object]) -> type:
    """Type of what a list holds: int, float or str."""
    return type(default[0]) if default else ELEMENTS.get(name, str)


def _list_of(element: type, value: object) -> list[object]:
    """``a,b``, ``'a, b',c``, ``['a', 'b']``, or for numbers ``0,1`` and ``[0, 1]``, as a list."""
    if element is str:
        wrong = f"wants a list; got {value!r}: quote the names, ['task', 'x'], or use commas without brackets, task,x"
    else:
        wrong = f"wants a list of numbers ({element.__name__}) such as 0,1 or [0, 1]; got {value!r}"
    try:
        items: object = value
        if isinstance(value, str):
            items = ast.literal_eval(value.strip()) if value.lstrip().startswith("[") else _between_commas(value)
            if element is not str and isinstance(items, list):
                items = [ast.literal_eval(item) if isinstance(item, str) else item for item in items]
        if not isinstance(items, list):
            raise ValueError(wrong)
        if element is not str:
            return [_number(element, item) for item in items]
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(wrong) from error
    if not all(isinstance(item, str) for item in items):
        raise ValueError(wrong)
    return items


def _number(element: type, value: object) -> object:
    """An int as it is or as a float; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, element)):
        raise ValueError(f"wants {element.__name__}; got {type(value).__name__} {value!r}")
    return element(value)


def _between_commas(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters, lexer.escape = ",", True, "", ""
    return [name.strip() for name in lexer if name.strip()]


def _unquoted(text: str) -> str:
    whole = len(text) >= 2 and text[0] in "\"'" and text.find(text[0], 1) == len(text) - 1
    return text[1:-1] if whole else text
