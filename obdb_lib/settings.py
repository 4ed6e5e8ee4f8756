"""The settings JSON of upstream OBDB as a checked model: same keys, unknown keys refused, all mistakes listed at once.

Variants stand as blocks of their own at the top level (``"resnet18": {"run_hpo": 0, ...}``). Hyperparameters that are
``false`` or missing are not chosen yet: training then takes its defaults.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from obdb_lib import paths
from obdb_lib.cache import write_json
from obdb_lib.errors import SettingsError

ARCHITECTURES = ("mobilenet_v2", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "retina_net")
"""Networks that a variant name may be, or begin with (``resnet18_weeds_pretrained``)."""
HYPERPARAMETERS = ("lr", "weight_decay", "momentum", "step_size", "gamma")
HPO_KEYS = ("sherpa_parameters", "hpo_parameters")
"""Both names of the search ranges that upstream's files use."""
VARIANT_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_.-]+")
"""A variant's name becomes part of file names."""


def architecture_of(variant: str) -> str | None:
    """The network a variant name means, or None when it means none."""
    for name in sorted(ARCHITECTURES, key=len, reverse=True):
        if variant == name or variant.startswith(f"{name}_"):
            return name
    return None


def _flag(value: object) -> object:
    return bool(value) if isinstance(value, int) and value in (0, 1) else value


def _unset(value: object) -> object:
    return None if value is False else value


def _count_or_infer(value: object) -> object:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not whole and value != "infer":
        raise ValueError(f"input should be a whole number or 'infer'; got {value!r}")
    return value


Flag = Annotated[bool, BeforeValidator(_flag)]
Unset = BeforeValidator(_unset)
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True, frozen=True)


class Hyperparameters(_Model):
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


class VariantSettings(_Model):
    """One variant's block.

    Attributes:
        run_hpo: search before training.
        use_settings_file: take the hyperparameters of ``save_dir/<variant>_settings.json`` when it is there.
        optimal_hpo_settings: hyperparameters given by hand.
        pretrained_model_path: checkpoint to start from; its classes may differ.
    """

    run_hpo: Flag = False
    use_settings_file: Flag = False
    optimal_hpo_settings: Hyperparameters = Hyperparameters()
    pretrained_model_path: str | None = None


class SearchRanges(_Model):
    """``[low, high]`` per hyperparameter; a missing one is not searched. lr and weight_decay use a log scale."""

    lr: list[float] | None = None
    weight_decay: list[float] | None = None
    momentum: list[float] | None = None
    step_size: list[int] | None = None
    gamma: list[float] | None = None

    @model_validator(mode="after")
    def _check(self) -> SearchRanges:
        limits = {"lr": (0.0, 10.0), "weight_decay": (0.0, 10.0), "momentum": (0.0, 1.0), "step_size": (1, 10**6)}
        mistakes = []
        for name, pair in self.given().items():
            low, high = limits.get(name, (0.0, 1.0))
            if len(pair) != 2 or not pair[0] < pair[1]:
                mistakes.append(f"{name} must be [low, high] with low < high; got {pair}")
            elif pair[0] < low or pair[1] > high or (name in ("lr", "weight_decay", "gamma") and pair[0] <= 0):
                above = "above 0" if name in ("lr", "weight_decay", "gamma") else f"from {low:g}"
                mistakes.append(f"{name} must lie {above} to {high:g}; got {pair}")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def given(self) -> dict[str, list[float]]:
        """The ranges that are searched, by upstream's names."""
        return {name: list(getattr(self, name)) for name in HYPERPARAMETERS if getattr(self, name) is not None}


class Settings(_Model):
    """Upstream's keys first, ours below; see the README's table for what each does."""

    variants: list[str] = Field(default_factory=list)
    blocks: dict[str, VariantSettings] = Field(default_factory=dict)
    full_hd: Flag = True
    annotations_list: list[str] = Field(default_factory=list)
    annotations_list_4k: list[str] = Field(default_factory=list)
    annotations_list_full_hd: list[str] = Field(default_factory=list)
    first_year_tasks: list[str] = Field(default_factory=list)
    excluded_frames: list[str] = Field(default_factory=list)
    default_class_map: list[str] = Field(default_factory=list)
    auto_annotation_class_map: list[str] = Field(default_factory=list)
    first_year_class_map: list[str] = Field(default_factory=list)
    wasp_seg_class_map: list[str] = Field(default_factory=list)
    save_dir: str = "data_cache/models"
    writer_dir: str = "data_cache/tensorboard"
    dataset_dir: str = "data_cache/sample"
    sherpa_parameters: SearchRanges = SearchRanges()
    fake_dataset_len: Count = 640
    max_train_epochs: Count = 100
    max_plateau_count: Count = 20
    search_epochs: Count = 10
    num_initial_data_points: Annotated[Count | Literal["infer"], BeforeValidator(_count_or_infer)] = "infer"
    max_num_trials: Count = 16
    hpo_timeout: Annotated[float, Field(gt=0)] = 6000.0
    start_on_checkpoint: Flag = False
    metrics_confidence_range: list[Share] = Field(default_factory=lambda: [0.5, 0.6, 0.7, 0.8, 0.9])
    metrics_iou_range: list[Share] = Field(default_factory=lambda: [0.5, 0.6, 0.7, 0.8, 0.9])
    metrics_confidence_range_small: list[Share] = Field(default_factory=lambda: [0.7])
    metrics_iou_range_small: list[Share] = Field(default_factory=lambda: [0.5])
    confidence_threshold_save_img: Share = 0.7
    # ours
    image_size: Annotated[int, Field(ge=32, le=8192)] = 1333
    batch_size: Count = 2
    workers: Annotated[int, Field(ge=0)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    vertical_flip: Flag = True
    val_loss: Flag = False

    @classmethod
    def load(cls, path: Path | str) -> Settings:
        """Read a settings file.

        Raises:
            SettingsError: missing file, malformed JSON, or mistakes in it: all of them, a line each.
        """
        path = Path(path)
        twice: list[str] = []
        try:
            raw = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=lambda p: _pairs(p, twice))
        except OSError as error:
            raise SettingsError(
                f"settings file {path} cannot be read ({error.strerror}); settings.example.json is a start"
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"settings file {path} is not valid JSON ({error}); mend it, or start again from settings.example.json"
            ) from error
        return cls.parse(raw, str(path), [f"{key}: stands twice in one block; keep one" for key in twice])

    @classmethod
    def parse(cls, raw: object, where: str = "settings", mistakes: Iterable[str] = ()) -> Settings:
        """Check a plain dictionary; ``where`` names its origin in the message.

        Raises:
            SettingsError: listing every mistake.
        """
        found = list(mistakes)
        if not isinstance(raw, dict):
            raise SettingsError(f"{where}: must be a JSON object of settings; got {type(raw).__name__}")
        fields, blocks = _sorted_keys(raw, found)
        values: dict[str, Any] = {}
        for name, block in blocks.items():
            try:
                values[name] = VariantSettings.model_validate(block)
            except ValidationError as error:
                found += _lines(error, name)
        settings: Settings | None = None
        try:
            settings = cls.model_validate({**fields, "blocks": values})
        except ValidationError as error:
            found += _lines(error)
        found += _variant_mistakes(fields.get("variants", []), blocks)
        if found or settings is None:
            count = "one mistake" if len(found) == 1 else f"{len(found)} mistakes"
            raise SettingsError(f"{where}: {count}:\n" + "\n".join(f"- {line}" for line in found))
        return settings

    def variant(self, name: str) -> VariantSettings:
        """Block of a variant; one that is only listed in ``variants`` gets the defaults.

        Raises:
            SettingsError: neither a block nor listed.
        """
        if name in self.blocks:
            return self.blocks[name]
        if name in self.variants:
            return VariantSettings()
        known = sorted({*self.blocks, *self.variants})
        raise SettingsError(
            f"variant {name!r} is not in the settings{_nearest(name, known)}; known: {', '.join(known)}"
        )

    def hyperparameters(self, name: str, save_dir: Path | None = None) -> Hyperparameters:
        """What training takes: ``<variant>_settings.json`` if the block says so and it exists, else the block's own.

        Args:
            name: a variant.
            save_dir: folder of that file; the settings' own ``save_dir`` when None.

        Raises:
            SettingsError: no such variant, or its file is wrong.
        """
        block = self.variant(name)
        path = (save_dir or paths.locate(self.save_dir)) / f"{name}_settings.json"
        return load_hyperparameters(path) if block.use_settings_file and path.exists() else block.optimal_hpo_settings

    def dump(self) -> dict[str, Any]:
        """The settings as upstream writes them: blocks at the top level. ``Settings.parse(s.dump()) == s``."""
        plain = self.model_dump(exclude={"blocks"}, exclude_none=True)
        for name, block in self.blocks.items():
            plain[name] = {
                **block.model_dump(exclude_none=True),
                "optimal_hpo_settings": block.optimal_hpo_settings.to_json(),
            }
        return plain


def load_hyperparameters(path: Path | str) -> Hyperparameters:
    """Read ``<variant>_settings.json`` (ours or upstream's).

    Raises:
        SettingsError: missing, malformed, or with wrong values.
    """
    try:
        return Hyperparameters.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"hyperparameters {path} cannot be read: {error}") from error
    except ValidationError as error:
        raise SettingsError(f"hyperparameters {path}:\n" + "\n".join(f"- {line}" for line in _lines(error))) from error


def save_hyperparameters(path: Path | str, values: Hyperparameters) -> None:
    """Write ``<variant>_settings.json`` with upstream's keys, atomically."""
    write_json(path, values.to_json())


def _pairs(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            twice.append(key)
        seen[key] = value
    return seen


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _variant_mistakes(given: object, blocks: Iterable[str]) -> list[str]:
    """What pydantic does not see: no variants, one twice, no known network, a name that is no file name."""
    listed = _texts(given)
    mistakes = []
    if given == []:
        mistakes.append(f"variants: nothing would be trained; list at least one of {', '.join(ARCHITECTURES)}")
    mistakes += [f"variants: {name!r} stands {n} times; keep one" for name, n in Counter(listed).items() if n > 1]
    for name in dict.fromkeys(listed):
        if architecture_of(name) is None:
            mistakes.append(f"variants: {name!r} is no known network{_nearest(name, ARCHITECTURES)}")
    for name in dict.fromkeys([*listed, *blocks]):
        if not VARIANT_NAME.fullmatch(name):
            mistakes.append(
                f"variants: {name!r} cannot name a file; use letters, digits, '_', '-' and single '.' alone"
            )
    return mistakes


def _sorted_keys(raw: dict[str, Any], mistakes: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Known fields and variant blocks; every other key becomes a mistake with the nearest known key."""
    known = [name for name in Settings.model_fields if name != "blocks"]
    listed = _texts(raw.get("variants"))
    fields: dict[str, Any] = {}
    blocks: dict[str, Any] = {}
    for key, value in raw.items():
        if key in HPO_KEYS:
            if "sherpa_parameters" in fields:
                mistakes.append("sherpa_parameters and hpo_parameters mean the same; keep one")
            fields["sherpa_parameters"] = value
        elif key in known:
            fields[key] = value
        elif architecture_of(key) or key in listed:
            blocks[key] = value
        else:
            mistakes.append(f"{key}: unknown key{_nearest(key, [*known, *HPO_KEYS, *ARCHITECTURES])}")
    return fields, blocks


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _lines(error: ValidationError, prefix: str = "") -> list[str]:
    """One line a mistake: where, what is wanted, what came."""
    lines = []
    for item in error.errors():
        place = ".".join(str(part) for part in (prefix, *item["loc"]) if part != "")
        if item["type"] == "extra_forbidden":
            key = str(item["loc"][-1])
            known = {**VariantSettings.model_fields, **Hyperparameters.model_fields}
            misplaced = prefix and len(item["loc"]) == 1 and key in HYPERPARAMETERS
            hint = f"; put it under {prefix}.optimal_hpo_settings" if misplaced else _nearest(key, known)
            lines.append(f"{place}: unknown key{hint}")
        else:
            text = item["msg"].removeprefix("Value error, ")
            given = "" if item["type"] == "value_error" else f"; got {item['input']!r}"
            lines.append(f"{place}: {text[0].lower()}{text[1:]}{given}")
    return list(dict.fromkeys(lines))
