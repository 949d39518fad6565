"""The adversarial baselines: training, resume, use, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_training  # noqa: E402
from pydantic import ValidationError  # noqa: E402
from realdiff_core.config import camera_profile  # noqa: E402
from realdiff_core.errors import ConfigError  # noqa: E402
from realdiff_enhancer.models import create_model  # noqa: E402
from realdiff_enhancer.two_stage.training import TrainConfig, train_run  # noqa: E402
from realdiff_enhancer.two_stage.training.adversarial import AdversarialObjective, PatchDiscriminator  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from test_two_stage import frames  # noqa: E402


def settings(pack: Path, kind: str, **changes: Any) -> dict[str, Any]:
    model: dict[str, Any] = {
        "stages": "one",
        "direct": True,
        "fine": {"stride": 4, "channels": [8, 8], "norm_groups": 4},
    }
    if kind == "gan":
        model["fine"] = {**model["fine"], "attention": True, "adaptive_kernels": 2}
    adversarial = {"kind": kind, "channels": 4} | ({"l1_weight": 0.0, "r1": 1.0} if kind == "gan" else {})
    return tiny_training.settings(pack, model=model, adversarial=adversarial, distil_steps=0, **changes)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "tiny.npz"
    tiny_training.make_pack(path, count=3)
    return path


@pytest.mark.parametrize("kind", ["pix2pix", "gan"])
def test_a_baseline_trains_resumes_exactly_and_enhances(pack: Path, tmp_path: Path, kind: str) -> None:
    config = TrainConfig.model_validate(settings(pack, kind))
    assert train_run(config, tmp_path / "whole", report=lambda line: None).finished
    while not train_run(config, tmp_path / "parts", report=lambda line: None, time_limit_s=0.0).finished:
        pass
    whole, parts = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert any(".conv1.bank." in key for key in whole) == (kind == "gan")
    profile = camera_profile("d435")
    model = create_model(kind, profile=profile, device="cpu", weights=tmp_path / "whole" / "model")
    assert model.name == kind
    depth = model.enhance(frames(1)).depth
    assert np.array_equal(depth[0, -4:], frames(1).depth[0, -4:])
    with pytest.raises(ConfigError, match="in one step"):
        create_model(kind, profile=profile, device="cpu", weights=tmp_path / "whole" / "model", steps=4)


def test_a_baseline_without_weights_says_how_to_train_it() -> None:
    with pytest.raises(ConfigError, match=r"config/enhancer/baselines/pix2pix\.yaml"):
        create_model("pix2pix", profile=camera_profile("d435"))


def test_half_an_adversarial_configuration_is_refused(pack: Path) -> None:
    wrong = settings(pack, "pix2pix")
    wrong["model"] = {**wrong["model"], "direct": False}
    with pytest.raises(ValidationError, match="adversarial model needs"):
        TrainConfig.model_validate(wrong)


def test_only_what_the_penalty_needs_of_a_bf16_discriminator_is_in_float32(pack: Path) -> None:
    accelerator: Any = SimpleNamespace(
        mixed_precision="bf16", num_processes=1, autocast=lambda: torch.autocast("cpu", torch.bfloat16)
    )
    store: Any = SimpleNamespace(clean=torch.zeros(1))
    objective = AdversarialObjective("fine", store, TrainConfig.model_validate(settings(pack, "gan")), accelerator)
    seen: list[Any] = []
    objective.discriminator.layers[2].register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
    real, fake = torch.randn((2, 2, 5, 64, 64), generator=torch.Generator().manual_seed(0))
    before = [p.detach().clone() for p in objective.discriminator.parameters()]
    objective._train_discriminator(real, fake, 0)  # with the penalty: real, then fake images
    objective._train_discriminator(real, fake, 1)
    assert seen == [torch.float32, torch.bfloat16, torch.bfloat16, torch.bfloat16]
    for old, new in zip(before, objective.discriminator.parameters(), strict=True):
        assert new.dtype == torch.float32
        assert torch.isfinite(new).all() and not torch.equal(old, new)


def test_the_discriminator_sees_70_pixels() -> None:
    discriminator = PatchDiscriminator(4)
    for layer in discriminator.modules():  # instance norm would let every pixel see the whole image
        if isinstance(layer, torch.nn.InstanceNorm2d):
            layer.forward = lambda values: values
    image = torch.zeros((1, 5, 160, 160), requires_grad=True)
    logits = discriminator(image)
    logits[0, 0, logits.shape[-2] // 2, logits.shape[-1] // 2].backward()
    assert image.grad is not None
    seen = torch.nonzero(image.grad[0].abs().sum((0, 1))).flatten()
    assert int(seen[-1] - seen[0]) + 1 == 70
