"""What is wrong in a settings file, in the words of its user: one line a mistake, with the key that was meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from obdb_lib.variants import did_you_mean, nearest

FEW_KEYS = 8
"""A block with at most so many keys is listed in full when no key is like the unknown one."""
OTHER_WORDS = {
    "learning_rate": "lr",
    "wd": "weight_decay",
    "decay": "weight_decay",
    "epochs": "max_train_epochs",
    "num_epochs": "max_train_epochs",
    "patience": "max_plateau_count",
    "num_workers": "workers",
    "img_size": "image_size",
    "imgsz": "image_size",
    "trials": "max_num_trials",
}
"""Names that other tools use for our keys."""
WANTED = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "string_too_short": "must not be empty",
    "model_type": 'must be a block of settings, {"key": value}',
    "dict_type": 'must be a block of settings, {"key": value}',
}
"""Pydantic's kinds of mistake in the words of the README's table."""


def mistake_lines(error: ValidationError, blocks: Mapping[str, Iterable[str]], prefix: str = "") -> list[str]:
    """One line a mistake: where, what is wanted, what came.

    Args:
        blocks: the keys of each kind of block, by the name it stands under; ``""`` is the outermost.
        prefix: where the checked value stands, e.g. a variant's name.
    """
    lines = []
    for item in error.errors():
        place = ".".join(str(part) for part in (prefix, *item["loc"]) if part != "")
        if item["type"] == "extra_forbidden":
            key, block = str(item["loc"][-1]), str(item["loc"][-2]) if len(item["loc"]) > 1 else ""
            lines.append(f"{place}: unknown key{hint(key, block, blocks, prefix)}")
        else:
            text = WANTED.get(item["type"], item["msg"].removeprefix("Value error, ").partition(" after validation")[0])
            given = "" if item["type"] == "value_error" else f"; got {item['input']!r}"
            lines.append(f"{place}: {text[0].lower()}{text[1:]}{given}")
    return list(dict.fromkeys(lines))


def hint(key: str, block: str, blocks: Mapping[str, Iterable[str]], prefix: str = "") -> str:
    """What an unknown key may have meant: a known one beside it, the block it belongs into, or what there is."""
    own = list(blocks[block])
    other = OTHER_WORDS.get(key.lower(), key)
    if other in own:
        return did_you_mean(other)
    places = [name for name, keys in blocks.items() if name != block and other in keys]
    # A key that is known elsewhere is meant, rather than one here that is spelt a little like it.
    if places:
        path = ".".join(part for part in (prefix, places[0]) if part)
        return f"; put {'it' if other == key else repr(other)} under {path}"
    near = nearest(key, own)
    return did_you_mean(near) if near or len(own) > FEW_KEYS else f"; there are {', '.join(own)}"
