"""Every training configuration of the repository loads, and those that are compared are comparable."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from realdiff_core.layers import load_layers  # noqa: E402
from realdiff_enhancer.two_stage.config import TwoStageConfig  # noqa: E402
from realdiff_enhancer.two_stage.networks import make_coarse, make_fine  # noqa: E402
from realdiff_enhancer.two_stage.training import TrainConfig  # noqa: E402

FOLDER = Path(__file__).resolve().parents[3] / "config" / "enhancer"
SHIPPED = FOLDER / "two_stage.yaml"
ABLATIONS = sorted((FOLDER / "ablations").glob("*.yaml"))
BASELINES = sorted((FOLDER / "baselines").glob("*.yaml"))


def stage_parameters(model: TwoStageConfig) -> tuple[int, int]:
    with torch.device("meta"):
        networks = [make_coarse(model) if model.stages == "two" else torch.nn.Identity(), make_fine(model)]
    coarse, fine = (sum(p.numel() for p in network.parameters()) for network in networks)
    return coarse, fine


def parameters(model: TwoStageConfig) -> int:
    return sum(stage_parameters(model))


def work(config: TrainConfig) -> int:
    """Parameters x steps of a training."""
    coarse, fine = stage_parameters(config.model)
    return coarse * config.coarse_steps + fine * (config.base_steps + config.fine_steps)


def test_the_paper_s_ablations_are_there() -> None:
    assert {"e2e", "without_fgs", "without_dgo"} <= {path.stem for path in ABLATIONS}


@pytest.mark.parametrize("path", [*ABLATIONS, *BASELINES], ids=lambda p: p.stem)
def test_what_is_compared_has_the_same_data_and_budget(path: Path) -> None:
    shipped, ablation = (load_layers([p], TrainConfig) for p in (SHIPPED, path))
    assert ablation != shipped
    assert parameters(ablation.model) == pytest.approx(parameters(shipped.model), rel=0.03)
    if ablation.model.direct:  # the discriminator works too
        assert work(ablation) < 0.75 * work(shipped)
    else:
        assert work(ablation) == pytest.approx(work(shipped), rel=0.03)
    if path.stem != "real_only":
        assert ablation.packs == shipped.packs
    for key in ("batch", "crop", "learning_rate", "seed"):
        assert getattr(ablation, key) == getattr(shipped, key), key


def test_the_gan_has_adaptive_kernels_attention_and_as_many_parameters_as_one_stage_of_diffusion() -> None:
    gan, single = (
        load_layers([FOLDER / name], TrainConfig).model for name in ("baselines/gan.yaml", "ablations/e2e.yaml")
    )
    assert gan.fine.adaptive_kernels > 1
    assert gan.fine.attention
    assert parameters(gan) == pytest.approx(parameters(single), rel=0.03)


def test_shipped_weights_fit_their_files() -> None:
    config = load_layers([SHIPPED], TrainConfig)
    distilled = config.model.model_copy(update={"few_steps": config.distil_to})
    sizes = [2 * parameters(model) for model in (config.model, distilled)]
    assert max(sizes) < 16e6 - 2e5  # the header comes on top
    assert sum(sizes) < 32e6


def test_stable_diffusion_configuration_loads() -> None:
    config = load_layers([FOLDER / "stable_diffusion.yaml"], TrainConfig, ["model.coarse.folder=/sd"])
    assert config.model.coarse.kind == config.model.fine.kind == "stable_diffusion"
    assert config.model.coarse.folder == "/sd"
