"""A trained Diffusion Policy as a folder: policy.json and model.safetensors (never a pickle)."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, ValidationError
from realdiff_core.config import Strict
from realdiff_core.errors import ConfigError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from realdiff_core import topics
from realdiff_policy.contract import PolicyContract
from realdiff_policy.images import image_contract
from realdiff_policy.policies.diffusion_policy.configuration_diffusion_policy import DiffusionPolicyConfig
from realdiff_policy.policies.diffusion_policy.modeling_diffusion_policy import DiffusionPolicyModel
from realdiff_policy.policies.diffusion_policy.processor_diffusion_policy import DiffusionPolicyProcessor, Statistics

if TYPE_CHECKING:
    from realdiff_policy.training.config import TrainConfig
    from realdiff_policy.training.samples import Samples

RECORD, WEIGHTS = "policy.json", "model.safetensors"


class PolicyRecord(Strict):
    """Everything of a trained policy but its weights.

    Attributes:
        contract: What it expects and gives.
        config: Its settings.
        statistics: Ranges of its training data.
        training: How it was trained.
        sha256: Of the other files beside this one, by name.
    """

    format_version: Literal[1] = 1
    contract: PolicyContract
    config: DiffusionPolicyConfig
    statistics: Statistics
    training: dict[str, Any]
    sha256: dict[str, str] = Field(default_factory=dict)


def save_policy(
    folder: Path,
    config: TrainConfig,
    samples: Samples,
    network: DiffusionPolicyModel,
    processor: DiffusionPolicyProcessor,
) -> None:
    """Writes the policy beside its final name and moves it."""
    policy = config.policy
    camera = samples.camera
    record = PolicyRecord(
        contract=PolicyContract(
            policy=policy.policy,
            task=samples.task,
            colour=image_contract(topics.COLOR_IMAGE, camera),
            depth=image_contract(topics.ALIGNED_DEPTH_IMAGE, camera) if policy.depth is not None else None,
            depth_range_m=policy.depth_range_m,
            trained_on=samples.training.depth_shares,
            action=policy.action,
        ),
        config=policy,
        statistics=processor.statistics,
        training={
            "seed": config.seed,
            "steps": config.steps,
            "batch": config.batch,
            "episodes": len(samples.training.episodes),
            "frames": len(samples.training),
            "augmentation": config.augmentation.model_dump(),
            "optimiser": config.optimiser.model_dump(mode="json"),
            "bags_sha256": sorted({episode.record.sha256 for episode in samples.training.episodes}),
        },
    )
    write_policy(folder, record, {name: value.detach().cpu() for name, value in network.state_dict().items()})


def write_policy(folder: Path, record: PolicyRecord, weights: dict[str, torch.Tensor]) -> None:
    """Writes record and weights; an existing policy is replaced when the new one is complete."""
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in weights.items()}, str(partial / WEIGHTS))
    signed = record.model_copy(update={"sha256": {WEIGHTS: sha256(partial / WEIGHTS)}})
    (partial / RECORD).write_text(signed.model_dump_json(indent=1) + "\n")
    # safetensors writes files that only their owner can read.
    (partial / WEIGHTS).chmod((partial / RECORD).stat().st_mode)
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def sha256(file: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def check_files(folder: Path, record: PolicyRecord) -> None:
    """Compares the files beside a record with the ones that were written with it.

    Raises:
        ConfigError: One is missing or has another content.
    """
    for name, wanted in record.sha256.items():
        file = folder / name
        have = sha256(file) if file.is_file() else ""
        if have != wanted:
            raise ConfigError(
                "a file of the policy is damaged" if have else "a file of the policy is missing",
                where=file,
                expected=f"sha256 {wanted[:16]}…",
                got=f"sha256 {have[:16]}…" if have else "no such file",
                next_step="copy or export the policy again",
            )


def read_record(folder: Path) -> PolicyRecord:
    """Reads everything but the weights.

    Raises:
        ConfigError: The folder holds no policy, or one of another format.
    """
    file = folder / RECORD
    try:
        return PolicyRecord.model_validate_json(file.read_text())
    except FileNotFoundError:
        raise ConfigError(
            "no policy is here",
            where=folder,
            expected=f"{RECORD} and {WEIGHTS}",
            got="no such file",
            next_step="name the `policy` folder of a training run, or a bundle made by export",
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            "the policy's record can't be used",
            where=f"{file}, {'.'.join(map(str, first['loc']))}",
            expected=first["msg"],
            got=str(first.get("input"))[:200],
            next_step="it is damaged or of another version: export it again",
        ) from None


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Reads the weights.

    Raises:
        ConfigError: The file is missing or damaged.
    """
    file = folder / WEIGHTS
    try:
        return load_file(str(file))
    except (FileNotFoundError, SafetensorError) as error:
        raise ConfigError(
            "the policy's weights can't be read",
            where=file,
            expected="a complete safetensors file",
            got=str(error),
            next_step="copy or export the policy again",
        ) from None


def load_network(record: PolicyRecord, weights: dict[str, torch.Tensor], where: Path) -> DiffusionPolicyModel:
    """The network with its weights, in float32, ready for inference.

    Raises:
        ConfigError: The weights are of another network.
    """
    network = DiffusionPolicyModel(record.config)
    try:
        network.load_state_dict({name: value.float() for name, value in weights.items()})
    except RuntimeError as error:
        raise ConfigError(
            "weights and settings are of different policies",
            where=where,
            got=str(error)[:500],
            next_step="copy or export the policy again",
        ) from None
    return network.eval().requires_grad_(False)
