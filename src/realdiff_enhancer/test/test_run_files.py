"""Files of a training run: what they hold comes back exactly, nothing is a pickle, damage is named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import tiny_training  # noqa: E402
from realdiff_core.errors import ConfigError  # noqa: E402
from realdiff_enhancer.two_stage.training import TrainConfig, train_run  # noqa: E402
from realdiff_enhancer.two_stage.training.state_file import read_state, write_state  # noqa: E402
from safetensors import safe_open  # noqa: E402


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    pack = tmp_path_factory.mktemp("packs") / "tiny.npz"
    tiny_training.make_pack(pack)
    short = {"distil_steps": 0, "calibration_frames": 0, "validation_frames": 0, "sample_every": 0}
    return TrainConfig.model_validate(tiny_training.settings(pack, **short))


def quiet(line: str) -> None:
    """Reports nothing."""


def truncate(file: Path, count: int = 64) -> None:
    file.write_bytes(file.read_bytes()[:-count])


def test_a_state_comes_back_with_types_values_and_layout(tmp_path: Path) -> None:
    shared = torch.arange(3.0)
    kernel = torch.randn((4, 3, 3, 3)).to(memory_format=torch.channels_last)
    state = {
        "param_groups": [{"lr": 0.1 + 0.2, "betas": (0.9, 0.999), "fused": None, "foreach": True, "params": [0, 1]}],
        "state": {0: {"step": torch.tensor(7.0), "exp_avg": kernel}, 1: {"half": shared.half(), "count": 2**62}},
        "shadow_params": [shared, shared[1:], torch.zeros(0), torch.ones((2, 5, 1, 1), dtype=torch.bfloat16)],
        "limit": math.inf,
        "name": "größer",
    }
    write_state(tmp_path / "s.safetensors", state)
    back = read_state(tmp_path / "s.safetensors")
    assert str(back) == str(state)  # values and types, the order of keys among them
    assert list(back["state"]) == [0, 1] and back["param_groups"][0]["lr"] == 0.1 + 0.2
    moment = back["state"][0]["exp_avg"]
    assert torch.equal(moment, kernel) and moment.stride() == kernel.stride() and not moment.is_contiguous()
    assert back["state"][1]["half"].dtype == torch.float16 and back["shadow_params"][3].dtype == torch.bfloat16
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


@pytest.mark.parametrize("state", [{"a": {1, 2}}, {"a": object()}, {(1, 2): 3}])
def test_a_state_that_json_can_not_hold_is_refused(tmp_path: Path, state: dict[object, object]) -> None:
    with pytest.raises(TypeError):
        write_state(tmp_path / "s.safetensors", state)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_named_and_the_run_goes_on_without_it(config: TrainConfig, tmp_path: Path) -> None:
    assert not train_run(config, tmp_path / "run", report=quiet, time_limit_s=0.0).finished
    file = tmp_path / "run" / "coarse" / "checkpoint.safetensors"
    with safe_open(file, "pt") as opened:  # tensors and text: nothing that could run
        assert set(opened.metadata()) == {"structure"} and len(opened.keys()) > 10
    whole = file.read_bytes()
    for content in (whole[:-64], whole[:100], b""):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match="is damaged") as caught:
            train_run(config, tmp_path / "run", report=quiet)
        assert str(file) in str(caught.value) and "delete this file" in str(caught.value)
    state = tmp_path / "other.safetensors"
    write_state(state, {"done": 1, "network": {"conv_in.weight": torch.zeros(3)}})
    file.write_bytes(state.read_bytes())
    with pytest.raises(ConfigError, match="is damaged"):
        train_run(config, tmp_path / "run", report=quiet)
    file.unlink()
    assert train_run(config, tmp_path / "run", report=quiet).finished
    assert not list((tmp_path / "run").rglob("checkpoint*"))


def test_damaged_files_of_a_run_are_named_and_made_again(config: TrainConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train_run(config, run, report=quiet).finished
    model = {path.name: path.read_bytes() for path in (run / "model").glob("*.safetensors")}
    for name in ("coarse/weights.safetensors", "draws.safetensors", "fine/weights.safetensors"):
        truncate(run / name)
        with pytest.raises(ConfigError, match="is damaged") as caught:
            train_run(config, run, report=quiet)
        assert str(run / name) in str(caught.value) and "delete this file" in str(caught.value)
        (run / name).unlink()
        assert train_run(config, run, report=quiet).finished
        assert {path.name: path.read_bytes() for path in (run / "model").glob("*.safetensors")} == model
    settings = run / "train_config.json"
    assert json.loads(settings.read_text())["coarse_steps"] == 4
    truncate(settings)
    with pytest.raises(ConfigError, match="is damaged") as caught:
        train_run(config, run, report=quiet)
    assert str(settings) in str(caught.value) and "train anew" in str(caught.value)
