"""The settings JSON of upstream OBDB as a checked model: same keys, unknown keys refused, all mistakes listed at once.

Variants stand as blocks of their own at the top level (``"resnet18": {"run_hpo": 0, ...}``). Hyperparameters that are
``false`` or missing are not chosen yet: training then takes its defaults.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from obdb_lib import paths
from obdb_lib.errors import SettingsError
from obdb_lib.settings_blocks import (
    BLOCKS,
    HYPERPARAMETERS,
    AugmentationSettings,
    Count,
    Flag,
    Hyperparameters,
    SearchRanges,
    SettingsModel,
    Share,
    VariantSettings,
    count_or_auto,
    count_or_infer,
    load_hyperparameters,
    save_hyperparameters,
)
from obdb_lib.settings_mistakes import hint, mistake_lines
from obdb_lib.variants import ARCHITECTURES, SHORT_LIST, architecture_of, did_you_mean, nearest, variant_mistake

__all__ = [
    "ARCHITECTURES",
    "HYPERPARAMETERS",
    "AugmentationSettings",
    "Hyperparameters",
    "SearchRanges",
    "Settings",
    "VariantSettings",
    "architecture_of",
    "load_hyperparameters",
    "save_hyperparameters",
]

HPO_KEYS = ("sherpa_parameters", "hpo_parameters")
"""Both names of the search ranges that upstream's files use."""
Folder = Annotated[str, Field(min_length=1)]
Shares = Annotated[list[Share], Field(min_length=1)]
VARIANT_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_.-]+")
"""A variant's name becomes part of file names."""


class Settings(SettingsModel):
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
    save_dir: Folder = "data_cache/models"
    writer_dir: Folder = "data_cache/tensorboard"
    dataset_dir: str = "data_cache/sample"
    sherpa_parameters: SearchRanges = SearchRanges()
    fake_dataset_len: Count = 640
    max_train_epochs: Count = 100
    max_plateau_count: Count = 20
    search_epochs: Count = 10
    num_initial_data_points: Annotated[Count | Literal["infer"], BeforeValidator(count_or_infer)] = "infer"
    max_num_trials: Count = 16
    hpo_timeout: Annotated[float, Field(gt=0)] = 6000.0
    start_on_checkpoint: Flag = False
    metrics_confidence_range: Shares = Field(default_factory=lambda: [0.5, 0.6, 0.7, 0.8, 0.9])
    metrics_iou_range: Shares = Field(default_factory=lambda: [0.5, 0.6, 0.7, 0.8, 0.9])
    metrics_confidence_range_small: Shares = Field(default_factory=lambda: [0.7])
    metrics_iou_range_small: Shares = Field(default_factory=lambda: [0.5])
    confidence_threshold_save_img: Share = 0.7
    # ours
    image_size: Annotated[int, Field(ge=32, le=8192)] = 1333
    batch_size: Annotated[Count | Literal["auto"], BeforeValidator(count_or_auto)] = 2
    workers: Annotated[int, Field(ge=0)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    vertical_flip: Flag = True
    val_loss: Flag = False
    best_by: Literal["val_ap50", "val_ap", "val_loss"] = "val_ap50"
    clip_norm: Annotated[float, Field(gt=0)] = 5.0
    hpo_algorithm: Literal["bayesian", "gpyopt", "tpe", "random", "successive_halving"] = "bayesian"
    hpo_objective: Literal["val_map", "val_loss", "train_loss"] = "val_map"
    hpo_early_stopping: Flag = True
    augmentation: AugmentationSettings = AugmentationSettings()
    maintenance_acts: str = ""

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
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number too long, nested too deep
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
        for key in HPO_KEYS:
            try:
                if key in raw:
                    fields["sherpa_parameters"] = SearchRanges.model_validate(raw[key])
            except ValidationError as error:
                found += mistake_lines(error, BLOCKS | {"": SearchRanges.model_fields}, key)
        values: dict[str, Any] = {}
        for name, block in blocks.items():
            try:
                values[name] = VariantSettings.model_validate(block)
            except ValidationError as error:
                found += mistake_lines(error, BLOCKS, name)
        settings: Settings | None = None
        try:
            settings = cls.model_validate({**fields, "blocks": values})
        except ValidationError as error:
            found += mistake_lines(error, BLOCKS | {"": cls.model_fields})
        found += _variant_mistakes(fields.get("variants", []), blocks)
        found += [
            f"{name}.run_hpo: a search needs ranges; give sherpa_parameters at least one of "
            f"{', '.join(HYPERPARAMETERS)}, or set run_hpo to 0"
            for name, block in values.items()
            if block.run_hpo and name in fields.get("variants", []) and not any(raw.get(key) for key in HPO_KEYS)
        ]
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
            f"variant {name!r} is not in the settings{did_you_mean(nearest(name, known))}; known: {', '.join(known)}"
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
        mistakes.append(f"variants: nothing would be trained; list at least one of {SHORT_LIST}")
    mistakes += [f"variants: {name!r} stands {n} times; keep one" for name, n in Counter(listed).items() if n > 1]
    for name in dict.fromkeys(listed):
        wrong = variant_mistake(name)
        if wrong:
            mistakes.append(f"variants: {wrong}")
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
            continue
        if key in known:
            fields[key] = value
        elif architecture_of(key) or key in listed:
            blocks[key] = value
        else:
            mistakes.append(f"{key}: unknown key{hint(key, '', _places(listed, known))}")
    if all(key in raw for key in HPO_KEYS):
        mistakes.append("sherpa_parameters and hpo_parameters mean the same; keep one")
    return fields, blocks


def _places(variants: list[str], known: list[str]) -> dict[str, Iterable[str]]:
    """The keys by the block they stand in, as seen from the outermost one."""
    variant = variants[0] if variants else "<variant>"
    return {
        "": [*known, *HPO_KEYS, *ARCHITECTURES],
        f"{variant}.optimal_hpo_settings": Hyperparameters.model_fields,
        variant: VariantSettings.model_fields,
        "augmentation": AugmentationSettings.model_fields,
    }
