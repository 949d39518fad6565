"""A trained model on disk: config.json, model.safetensors and, with distilled networks, few_steps.safetensors.

config.json holds the model's settings and, under `weights_sha256`, the hashes of the weights files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from realdiff_core.config import config_folders
from realdiff_core.errors import ConfigError
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from .config import TemporalConfig, TwoStageConfig
from .networks import make_coarse, make_fine

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
FEW_STEPS_NAME = "few_steps.safetensors"
HASHES_KEY = "weights_sha256"


@dataclass(frozen=True)
class LoadedModel:
    """What a model folder holds, for one number of steps.

    Attributes:
        config: the model's settings.
        coarse: coarse denoiser; None in a single-stage model.
        fine: fine denoiser.
        sha256: of the weights file that was read.
    """

    config: TwoStageConfig
    coarse: nn.Module | None
    fine: nn.Module
    sha256: str


def base_config(config: TwoStageConfig) -> TwoStageConfig:
    """Settings of the base networks: without distilled numbers of steps."""
    return config.model_copy(update={"few_steps": ()})


def load_config(folder: Path) -> TwoStageConfig:
    """Reads a model folder's settings.

    Raises:
        ConfigError: the folder lacks a file, or the settings don't fit.
    """
    return _read_config(folder)[0]


def _read_config(folder: Path) -> tuple[TwoStageConfig, dict[str, str]]:
    """Settings, and hash by name of the weights files; no hashes in folders that were written without."""
    for file in (folder / CONFIG_NAME, folder / WEIGHTS_NAME):
        if not file.is_file():
            raise ConfigError(
                "model folder is incomplete",
                where=str(folder),
                expected=f"{CONFIG_NAME} and {WEIGHTS_NAME}",
                got=f"no {file.name}",
                next_step="pass --weights with a folder that `ros2 run realdiff_enhancer train` wrote",
            )
    file = folder / CONFIG_NAME
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"{type(content).__name__} instead of keys and values")
    except (OSError, ValueError) as error:  # JSON's and UTF-8's errors are ValueErrors
        raise _unusable(file, error) from error
    hashes = content.pop(HASHES_KEY, {})
    if not isinstance(hashes, dict) or not all(isinstance(value, str) for value in hashes.values()):
        raise _wrong_value(file, HASHES_KEY, "the SHA-256 of each weights file, by its name", hashes)
    try:
        return TwoStageConfig.model_validate(content), hashes
    except ValidationError as error:
        first = error.errors()[0]
        missing = first["type"] == "missing"
        raise _wrong_value(
            file, ".".join(map(str, first["loc"])), first["msg"], "nothing" if missing else first["input"]
        ) from error


def load_model(folder: Path, steps: int | None = None) -> LoadedModel:
    """Loads the networks for a number of steps: the distilled ones where there are some for it, else the base ones.

    Args:
        folder: the model folder.
        steps: sampling steps a stage; None takes the model's default.

    Raises:
        ConfigError: the folder lacks a file, or a file doesn't fit.
    """
    config, hashes = _read_config(folder)
    distilled = (steps or config.schedule.steps) in config.few_steps
    file = folder / (FEW_STEPS_NAME if distilled else WEIGHTS_NAME)
    if not distilled:
        config = base_config(config)
    try:
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest != hashes.get(file.name, digest):
            raise ConfigError(
                "weights file is damaged",
                where=str(file),
                expected=f"SHA-256 {hashes[file.name]} ({HASHES_KEY} in {CONFIG_NAME})",
                got=f"SHA-256 {digest}",
                next_step=f"copy or train it again; if you replaced the file on purpose, copy its {CONFIG_NAME}, too",
            )
        state = load(content)
        fine = make_fine(config)
        _load_part(fine, state, "fine.")
        coarse = None
        if config.stages == "two":
            coarse = make_coarse(config)
            _load_part(coarse, state, "coarse.")
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:  # of the file, or of torch
        raise _unusable(file, error) from error
    return LoadedModel(config, coarse, fine, digest)


def _load_part(network: nn.Module, state: dict[str, Tensor], prefix: str) -> None:
    network.load_state_dict({k.removeprefix(prefix): v.float() for k, v in state.items() if k.startswith(prefix)})


def _wrong_value(file: Path, key: str, expected: str, got: object) -> ConfigError:
    """The error for a value in config.json; without a key where several values don't go together."""
    next_step = "correct the value, or copy or train the model again"
    if key == "format_version":
        next_step = "the model is of another version of this software: use that one, or train the model again"
    return ConfigError(
        "model can't be loaded",
        where=f"{file}, key {key}" if key else file,
        expected=expected,
        got=repr(got)[:200] if key else None,
        next_step=next_step,
    )


def _unusable(file: Path, error: Exception) -> ConfigError:
    return ConfigError(
        "model can't be loaded",
        where=str(file),
        expected="a two-stage model of this version",
        got=(str(error).splitlines() or [type(error).__name__])[0][:200],
        next_step="the file may be damaged or of another version: copy or train it again",
    )


def save_model(
    folder: Path,
    config: TwoStageConfig,
    coarse: nn.Module | None,
    fine: nn.Module,
    few_steps: tuple[nn.Module | None, nn.Module] | None = None,
) -> None:
    """Writes a model folder, the weights in fp16.

    Args:
        folder: made if it is absent.
        config: the settings; `few_steps` non-empty exactly if distilled networks are given.
        coarse: coarse denoiser, None in a single-stage model.
        fine: fine denoiser.
        few_steps: the distilled coarse and fine denoisers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    networks = {WEIGHTS_NAME: (coarse, fine)} | ({} if few_steps is None else {FEW_STEPS_NAME: few_steps})
    for name, pair in networks.items():
        save_file(_state(*pair), folder / name)
        (folder / name).chmod(0o644)  # safetensors makes files that only their owner can read
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in networks}
    _write_config(folder, config, hashes)


def set_temporal(folder: Path, temporal: TemporalConfig) -> None:
    """Gives a model folder other settings of the noise over time; the weights stay.

    Raises:
        ConfigError: the folder lacks a file, or its settings can't be read.
    """
    config, hashes = _read_config(folder)
    _write_config(folder, config.model_copy(update={"temporal": temporal}), hashes)


def _write_config(folder: Path, config: TwoStageConfig, hashes: dict[str, str]) -> None:
    content = {**config.model_dump(mode="json"), HASHES_KEY: hashes}
    partial = folder / f".{CONFIG_NAME}.partial"
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / CONFIG_NAME)


def _state(coarse: nn.Module | None, fine: nn.Module) -> dict[str, Tensor]:
    return {
        f"{stage}.{key}": value.detach().to(torch.float16).cpu().contiguous()
        for stage, network in (("coarse", coarse), ("fine", fine))
        if network is not None
        for key, value in network.state_dict().items()
    }


def shipped_weights(profile: str) -> Path:
    """Folder of the weights for a camera profile: fitted by `fit_camera` (in a configuration folder), or shipped."""
    for place in config_folders():
        if (place / "weights" / f"two_stage_{profile}").is_dir():
            return place / "weights" / f"two_stage_{profile}"
    root = Path(__file__).resolve().parent.parent / "weights"
    folder = root / f"two_stage_{profile}"
    if not folder.is_dir():
        available = sorted(p.name.removeprefix("two_stage_") for p in root.glob("two_stage_*"))
        raise ConfigError(
            "no shipped weights for this camera profile",
            expected=" or ".join(available) or "a weights folder",
            got=profile,
            next_step="pass --weights with a model folder, use --profile d435, or fit your own camera with fit_camera",
        )
    return folder
