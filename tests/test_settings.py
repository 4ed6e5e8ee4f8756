"""Settings: upstream's files load, every mistake is named, nothing unknown passes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from obdb_lib.errors import SettingsError
from obdb_lib.paths import PROJECT_ROOT
from obdb_lib.settings import Hyperparameters, Settings, load_hyperparameters, save_hyperparameters

UPSTREAM = {
    "full_hd": 1,
    "variants": ["resnet18_weeds_pretrained"],
    "retina_net": {
        "run_hpo": 1,
        "use_settings_file": 0,
        "optimal_hpo_settings": {
            "gamma": False,
            "lr": False,
            "momentum": False,
            "step_size": False,
            "weight_decay": False,
        },
    },
    "resnet18_weeds_pretrained": {
        "run_hpo": 0,
        "pretrained_model_path": "/train/models/resnet18_weeds_pretrained_model.pth",
        "use_settings_file": 1,
        "optimal_hpo_settings": {"gamma": 0.9, "lr": 0.01, "momentum": 0.1, "step_size": 5, "weight_decay": 0.0007},
    },
    "resnet34": {"run_hpo": 1, "use_settings_file": 0},
    "hpo_parameters": {"lr": [1e-7, 0.01], "weight_decay": [1e-05, 0.9], "step_size": [1, 5]},
    "num_initial_data_points": "infer",
    "max_num_trials": 32,
    "hpo_timeout": 6000,
    "metrics_confidence_range_small": [0.70],
    "excluded_frames": [],
}


def test_upstream_file__loads_with_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(UPSTREAM), encoding="utf-8")
    settings = Settings.load(path)
    assert settings.full_hd is True
    assert list(settings.blocks) == ["retina_net", "resnet18_weeds_pretrained", "resnet34"]
    assert settings.variant("retina_net").optimal_hpo_settings == Hyperparameters()
    assert settings.variant("resnet18_weeds_pretrained").optimal_hpo_settings.step_size == 5
    assert settings.sherpa_parameters.given() == {"lr": [1e-7, 0.01], "weight_decay": [1e-05, 0.9], "step_size": [1, 5]}
    assert settings.num_initial_data_points == "infer"


@pytest.mark.parametrize("name", ["settings_file_train_val.json", "settings_readme.json"])
def test_upstreams_own_files__load_unchanged(shared_data: Path, name: str) -> None:
    """Every key and value of the file stands in the settings; nothing is dropped or changed."""
    path = shared_data / "openweeds" / "upstream" / name
    raw = json.loads(path.read_text(encoding="utf-8"))
    settings = Settings.load(path)
    dumped = settings.dump()
    ranges = raw.pop("hpo_parameters", None) or raw.pop("sherpa_parameters")
    assert settings.sherpa_parameters.given() == ranges
    for key, value in raw.items():
        if key in settings.blocks:
            for inner, given in value.items():
                assert dumped[key][inner] == given, (key, inner)
        else:
            assert dumped[key] == value, key


def test_upstreams_chosen_hyperparameters__load_and_dump_unchanged(shared_data: Path) -> None:
    path = shared_data / "openweeds" / "upstream" / "resnet18_settings.json"
    assert load_hyperparameters(path).to_json() == json.loads(path.read_text(encoding="utf-8"))


def test_any_network_of_torchvision__is_a_variant_with_a_block() -> None:
    block = {"run_hpo": 1, "pretrained": 0, "trainable_layers": 5}
    plain = {"variants": ["convnext_tiny", "fcos_resnet50_fpn_4k"], "fcos_resnet50_fpn_4k": block}
    settings = Settings.parse({**plain, "sherpa_parameters": {"lr": [0.01, 0.1]}})
    assert settings.variant("convnext_tiny").pretrained == "auto"
    assert settings.variant("fcos_resnet50_fpn_4k").pretrained is False
    assert settings.variant("fcos_resnet50_fpn_4k").trainable_layers == 5
    assert Settings.parse(json.loads(json.dumps(settings.dump()))) == settings


def test_mistakes_in_our_blocks__are_named() -> None:
    wrong = {
        "variants": ["vit_b_16", "retinanet_resnet50_fpn_v3"],
        "resnet18": {"pretrained": "imagenet", "trainable_layers": 6},
        "augmentation": {"color": 0.1, "hue": 0.9, "scale": [1.0]},
        "best_by": "val_map50",
        "clip_norm": 0,
    }
    with pytest.raises(SettingsError) as caught:
        Settings.parse(wrong)
    text = str(caught.value)
    assert text.startswith("settings: 9 mistakes:")
    for part in (
        "variants: 'vit_b_16' cannot be used: vit_b_16 takes pictures of one fixed size only",
        "variants: 'retinanet_resnet50_fpn_v3' could be 'retinanet_resnet50_fpn' under another name or a misspelt",
        "resnet18.pretrained: input should be 'auto', true or false; got 'imagenet'",
        "resnet18.trainable_layers: input should be less than or equal to 5; got 6",
        "augmentation.color: unknown key (did you mean 'colour'?)",
        "augmentation.hue: input should be less than or equal to 0.5; got 0.9",
        "augmentation.scale: list should have at least 2 items",
        "best_by: input should be 'val_ap50', 'val_ap' or 'val_loss'; got 'val_map50'",
        "clip_norm: input should be greater than 0; got 0",
    ):
        assert part in text, (part, text)


def test_dump__reads_back_the_same_in_upstreams_form() -> None:
    settings = Settings.parse(UPSTREAM)
    plain = json.loads(json.dumps(settings.dump()))
    assert plain["retina_net"]["optimal_hpo_settings"]["lr"] is False
    assert Settings.parse(plain) == settings


@pytest.mark.parametrize("name", ["settings.example.json", "settings.cpu.json"])
def test_files_of_the_project__load(name: str) -> None:
    settings = Settings.load(PROJECT_ROOT / name)
    assert all(settings.variant(variant) for variant in settings.variants)


def test_all_mistakes__come_in_one_error() -> None:
    wrong = {
        "varients": ["x"],
        "variants": ["resnet81"],
        "resnet18": {"run_hp": 1, "optimal_hpo_settings": {"lr": "fast", "gama": 1}},
        "image_size": "3",
        "num_initial_data_points": "guess",
        "sherpa_parameters": {"lr": [1.0, 0.1], "momentum": [0.1, 2.0]},
        "batch_size": 0,
    }
    with pytest.raises(SettingsError) as caught:
        Settings.parse(wrong, "my.json")
    text = str(caught.value)
    assert text.startswith("my.json: ")
    for part in (
        "varients: unknown key (did you mean 'variants'?)",
        "'resnet81' is no known network (did you mean 'resnet18'?)",
        "resnet18.run_hp: unknown key (did you mean 'run_hpo'?)",
        "resnet18.optimal_hpo_settings.lr:",
        "gama: unknown key (did you mean 'gamma'?)",
        "image_size:",
        "num_initial_data_points: input should be a whole number or 'infer'; got 'guess'",
        "sherpa_parameters.lr: must be [low, high] with low < high; got [1.0, 0.1]",
        "sherpa_parameters.momentum: must lie from 0 to 1; got [0.1, 2.0]",
        "batch_size:",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"lr": 0.1}, "lr: unknown key; put it under resnet18.optimal_hpo_settings"),
        ({"momentum": 0.9}, "momentum: unknown key; put it under resnet18.optimal_hpo_settings"),
        ({"run_hpo": 1}, "run_hpo: unknown key; put it under resnet18"),
        ({"learning_rate": 1}, "learning_rate: unknown key; put 'lr' under resnet18.optimal_hpo_settings"),
        ({"epochs": 3}, "epochs: unknown key (did you mean 'max_train_epochs'?)"),
        ({"resnet18": {"lr": 0.1}}, "resnet18.lr: unknown key; put it under resnet18.optimal_hpo_settings"),
        (
            {"sherpa_parameters": {"optimiser": [1, 2]}},
            "sherpa_parameters.optimiser: unknown key; there are lr, weight_decay, momentum, step_size, gamma",
        ),
        ({"sherpa_parameters": {"wd": [1, 2]}}, "sherpa_parameters.wd: unknown key (did you mean 'weight_decay'?)"),
        (
            {"hpo_parameters": {"lr": [1, 0.1]}},
            "hpo_parameters.lr: must be [low, high] with low < high; got [1.0, 0.1]",
        ),
        ({"resnet18": {"run_hpo": 1}}, "resnet18.run_hpo: a search needs ranges"),
        ({"resnet18": 5}, "resnet18: must be a block of settings"),
        ({"save_dir": ""}, "save_dir: must not be empty"),
        ({"save_dir": 5}, "save_dir: must be text; got 5"),
        ({"metrics_iou_range_small": []}, "metrics_iou_range_small: list should have at least 1 item; got []"),
        ({"augmentation": {"scale": [2, 1]}}, "augmentation.scale: must be [low, high] with low <= high"),
    ],
)
def test_one_mistake__says_where_it_belongs_or_what_is_wanted(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.parse({"variants": ["resnet18"], **wrong})
    assert told in str(caught.value), str(caught.value)
    assert "one mistake" in str(caught.value)


def test_wrong_range__is_told_beside_an_unknown_one_and_in_both_blocks() -> None:
    ranges = {"lr": [0.1, 0.01], "lrr": [1, 2]}
    with pytest.raises(SettingsError) as caught:
        Settings.parse({"variants": ["resnet18"], "sherpa_parameters": ranges, "hpo_parameters": ranges})
    for part in ("sherpa_parameters.lr:", "sherpa_parameters.lrr:", "hpo_parameters.lr:", "hpo_parameters.lrr:"):
        assert part in str(caught.value), part


def test_misspelt_block__is_not_taken_for_a_variant() -> None:
    with pytest.raises(SettingsError, match=r"sherpa_paramters: unknown key \(did you mean 'sherpa_parameters'"):
        Settings.parse({"sherpa_paramters": {"lr": [0.1, 0.2]}})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "variants: nothing would be trained; list at least one of mobilenet_v2"),
        ({"variants": []}, "variants: nothing would be trained"),
        ({"variants": ["resnet18", "resnet34", "resnet18"]}, "'resnet18' stands 2 times; keep one"),
        ({"variants": ["resnet18_../../x"]}, "'resnet18_../../x' cannot name a file"),
        ({"variants": ["resnet18_a..b"]}, "'resnet18_a..b' cannot name a file"),
        ({"variants": ["resnet18_ä b"]}, "cannot name a file"),
        ({"variants": ["resnet18"], "resnet18_a/b": {}}, "'resnet18_a/b' cannot name a file"),
        (
            {"variants": ["resnet18"], "resnet18": {"lr": 0.1}},
            "resnet18.lr: unknown key; put it under resnet18.optimal_",
        ),
    ],
)
def test_variants__are_named_once_and_can_name_files(given: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.parse(given | {"batch_size": 0})
    assert message in str(caught.value)
    assert "2 mistakes" in str(caught.value)
    assert "batch_size" in str(caught.value)


def test_variants__may_have_single_dots_and_dashes() -> None:
    assert Settings.parse({"variants": ["resnet18_v1.2-b"]}).variants == ["resnet18_v1.2-b"]


def test_both_names_of_the_ranges__are_refused() -> None:
    with pytest.raises(SettingsError, match="keep one"):
        Settings.parse({"sherpa_parameters": {"lr": [0.1, 0.2]}, "hpo_parameters": {"lr": [0.1, 0.3]}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ('{"seed": 1, "seed": 2}', "seed: stands twice"),
        ('{"seed": true}', "seed"),
        ('{"full_hd": 2}', "full_hd"),
    ],
)
def test_malformed_files__are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message) as caught:
        Settings.load(path)
    assert "bad.json" in str(caught.value)


def test_missing_file__says_what_to_copy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"settings\.example\.json"):
        Settings.load(tmp_path / "none.json")


def test_variant__listed_or_with_a_block_else_refused() -> None:
    settings = Settings.parse({"variants": ["resnet18"], "resnet34": {"run_hpo": 1}})
    assert settings.variant("resnet18").run_hpo is False
    assert settings.variant("resnet34").run_hpo is True
    with pytest.raises(SettingsError, match="did you mean 'resnet34'"):
        settings.variant("resnet35")


def test_settings_file__is_used_when_the_block_says_so(tmp_path: Path) -> None:
    block = {"use_settings_file": 1, "optimal_hpo_settings": {"lr": 0.5}}
    settings = Settings.parse({"variants": ["resnet18"], "resnet18": block, "save_dir": str(tmp_path)})
    assert settings.hyperparameters("resnet18").lr == 0.5
    chosen = Hyperparameters(lr=0.002, momentum=0.8, best_value=0.6)
    save_hyperparameters(tmp_path / "resnet18_settings.json", chosen)
    assert settings.hyperparameters("resnet18") == chosen
    assert settings.hyperparameters("resnet18", tmp_path / "run").lr == 0.5, "another folder, and nothing there"


def test_settings_file__relative_save_dir_does_not_start_at_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    settings = Settings.parse({"variants": ["resnet18"], "resnet18": {"use_settings_file": 1}})
    save_hyperparameters(tmp_path / "data_cache" / "models" / "resnet18_settings.json", Hyperparameters(lr=0.1))
    assert settings.hyperparameters("resnet18").lr is None
    save_hyperparameters(tmp_path / "cache" / "models" / "resnet18_settings.json", Hyperparameters(lr=0.2))
    assert settings.hyperparameters("resnet18").lr == 0.2


def test_hyperparameters_of_upstream__load_and_bad_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "resnet18_settings.json"
    path.write_text('{"best_value": 0.599, "gamma": 0.22, "lr": 0.0045, "step_size": 5}', encoding="utf-8")
    assert load_hyperparameters(path).best_value == 0.599
    path.write_text('{"lr": -1, "momentum": 1.5}', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"(?s)lr: .*momentum: "):
        load_hyperparameters(path)
