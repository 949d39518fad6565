"""Other ways of evaluating the networks give what torch gives; the bench runs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from realdiff_core.errors import ConfigError  # noqa: E402
from realdiff_enhancer.models.device import pick_device  # noqa: E402
from realdiff_enhancer.two_stage import bench  # noqa: E402
from realdiff_enhancer.two_stage.conditioning import condition_channels  # noqa: E402
from realdiff_enhancer.two_stage.networks import as_denoiser, make_coarse, make_fine  # noqa: E402
from realdiff_enhancer.two_stage.pipeline import TwoStageModel  # noqa: E402
from realdiff_enhancer.two_stage.runtime import CompiledDenoiser  # noqa: E402
from realdiff_enhancer.two_stage.training.acceleration import Acceleration, accelerated  # noqa: E402
from test_two_stage import TINY, frames  # noqa: E402
from torch import dtype  # noqa: E402
from torch.nn import Module  # noqa: E402


def model(device: str) -> TwoStageModel:
    torch.manual_seed(3)
    return TwoStageModel(TINY, make_coarse(TINY), make_fine(TINY), steps=2, device=device)


def test_openvino_agrees_with_torch_within_a_disparity_step() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    batch = frames(2)
    expected, got = (model(device).enhance(batch) for device in ("cpu", "openvino"))
    assert expected.coarse is not None
    assert got.coarse is not None
    np.testing.assert_allclose(got.coarse, expected.coarse, rtol=1e-5, atol=1e-6)
    both = np.isfinite(got.depth) & np.isfinite(expected.depth)
    assert (np.isfinite(got.depth) != np.isfinite(expected.depth)).mean() < 1e-3
    steps = np.abs(19.2 / got.depth[both] - 19.2 / expected.depth[both]) / TINY.codec.disparity_step_px
    assert steps.max() < 1.01  # what lies between two steps may be rounded to either
    assert (steps > 0.01).mean() < 1e-3


def test_compiled_networks_give_what_others_give() -> None:
    network = as_denoiser(make_coarse(TINY).eval())
    traced: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        traced.append(len(inputs))
        return graph

    channels = 1 + condition_channels(TINY, TINY.coarse.stride, detailed=False)
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(1, dtype=torch.int64)
    compiled = CompiledDenoiser(network, backend)
    with torch.inference_mode():
        for time in (900, 100):
            sample = torch.randn((1, channels, 8, 8), generator=generator)
            timestep = torch.full((1,), time)
            torch.testing.assert_close(compiled(sample, timestep, labels), network(sample, timestep, labels))
    assert len(traced) == 1  # one compilation serves all timesteps


def test_a_compiler_that_fails_is_named() -> None:
    def backend(graph: object, inputs: object) -> object:
        raise OSError("no C compiler")

    compiled = CompiledDenoiser(as_denoiser(make_coarse(TINY).eval()), backend)
    channels = 1 + condition_channels(TINY, TINY.coarse.stride, detailed=False)
    labels = torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode(), pytest.raises(ConfigError, match=r"can't be compiled[\s\S]*no C compiler[\s\S]*cuda"):
        compiled(torch.zeros((1, channels, 8, 8)), labels, labels)


def test_compiled_networks_need_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        pick_device("cuda-compiled")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("cuda-compiled") == (torch.device("cuda"), "compiled")


def test_a_failing_compiler_does_not_stop_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(network: object, **options: object) -> object:
        def call(*arguments: object, **named: object) -> object:
            raise RuntimeError("no compiler here")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    lines: list[str] = []
    network = make_coarse(TINY)
    wrapped = accelerated(network, "compile", lines.append)
    channels = network.state_dict()["conv_in.weight"].shape[1]
    inputs = (torch.zeros((1, channels, 8, 8)), torch.tensor([1]), torch.tensor([0]))
    with torch.no_grad():
        assert torch.equal(wrapped(*inputs)[0], network(*inputs).sample)
    assert lines == ["acceleration failed, running without: no compiler here"]


@pytest.mark.slow
def test_bench_prints_rates_and_the_ratio(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SIZE", (64, 64))
    monkeypatch.setattr(bench, "LATENT", (8, 8))

    def small(device: str, kind: dtype) -> tuple[list[Module], Module]:
        from diffusers import AutoencoderKL, UNet2DConditionModel

        unets = [
            UNet2DConditionModel(
                in_channels=n,
                block_out_channels=(32, 32),
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                layers_per_block=1,
                attention_head_dim=8,
                cross_attention_dim=1024,
            )
            for n in (8, 13)
        ]
        return unets, AutoencoderKL(
            block_out_channels=(32,) * 4,
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            layers_per_block=1,
        )

    monkeypatch.setattr(bench, "_paper_networks", small)
    arguments = "--device cpu --steps 1 --frames 1 --singles 2 --paper-frames 1 --paper-steps 2 --json"
    assert bench.main(arguments.split()) == 0
    paper, ours = json.loads(capsys.readouterr().out)
    assert ours["ratio_to_paper"] == pytest.approx(ours["frames_per_s"] / paper["frames_per_s"])
    assert 0 < ours["p50_ms"] <= ours["p99_ms"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("graphs", [False, True])
def test_a_gpu_agrees_with_the_cpu_and_does_not_depend_on_the_grouping(graphs: bool) -> None:
    torch.manual_seed(3)
    networks = make_coarse(TINY), make_fine(TINY)
    on_cpu = model("cpu").enhance(frames(11))
    gpu = TwoStageModel(TINY, *networks, steps=2, device="cuda", precision="fp32", batch=8, graphs=graphs)
    together = gpu.enhance(frames(11))
    assert on_cpu.coarse is not None
    assert together.coarse is not None
    np.testing.assert_allclose(together.coarse, on_cpu.coarse, rtol=1e-3, atol=1e-4)
    alone = gpu.enhance(frames(1, previous=tuple(range(100, 110))))
    np.testing.assert_array_equal(alone.depth[0], together.depth[10])
    begun = [gpu.begin(frames(n)) for n in (11, 3, 7)]  # all at once: none disturbs another
    for finish, count in zip(begun, (11, 3, 7), strict=True):
        np.testing.assert_array_equal(finish(), together.depth[:count])
    pinned = gpu.empty(frames(8).depth.shape)
    pinned[:] = frames(8).depth
    np.testing.assert_array_equal(gpu.begin(replace(frames(8), depth=pinned))(), together.depth[:8])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("how", ["graphs", pytest.param("compile", marks=pytest.mark.slow)])
def test_accelerated_training_has_the_gradient_of_plain_training(how: Acceleration) -> None:
    torch.manual_seed(3)
    network = make_coarse(TINY).cuda()
    channels = network.state_dict()["conv_in.weight"].shape[1]
    inputs = (torch.randn((2, channels, 16, 16)).cuda(), torch.tensor([1, 9]).cuda(), torch.tensor([0, 1]).cuda())
    lines: list[str] = []
    gradients = []
    for module in (network, accelerated(network, how, lines.append)):
        with torch.no_grad():  # as for the targets of a distillation
            module(*inputs, return_dict=False)
        for _ in range(3):
            network.zero_grad()
            module(*inputs, return_dict=False)[0].square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    assert lines == []
    error = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    assert float(error) < 1e-2
