"""Adversarial baselines: Pix2Pix, and a GigaGAN-style GAN with adaptive kernels, attention and R1.

The generator is the fine network of a single-stage model, evaluated once at the noisiest timestep: one DDIM step from
pure noise. So everything around it, from the conditions to the decoding, is what the diffusion models have, and a
trained generator is an ordinary model folder with one sampling step.

Pix2Pix (Isola et al. 2017): 70x70 PatchGAN on condition and image, cross-entropy, L1 with weight 100. "gan": the same
discriminator with the R1 penalty (Mescheder et al. 2018), the non-saturating loss and no L1. Attention and GigaGAN's
sample-adaptive kernels (Kang et al. 2023) in the generator are settings of the network (`model.fine.attention`,
`model.fine.adaptive_kernels`).

The discriminator runs in bf16 where the networks do, its losses and all of the R1 penalty in float32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from ..conditioning import scene_features
from ..config import TwoStageConfig
from ..decoding import decode_fields
from ..sampling import fine_condition, no_coarse
from ..solver import Denoiser, ddim_plan, solve
from ..targets import fine_target
from .config import TrainConfig
from .objectives import Term
from .store import Batch, PairStore, draw_batch

#: Code units that the discriminator sees as ±1.
_CODE_RANGE = 4.0


class PatchDiscriminator(nn.Module):
    """70x70 PatchGAN: judges patches of [code, hole field, condition], [N,5,H,W] -> [N,1,h,w].

    Args:
        channels: of its first layer; 64 in Pix2Pix.
        in_channels: image and condition.
    """

    def __init__(self, channels: int, in_channels: int = 5) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        for width, stride in ((2, 2), (4, 2), (8, 1)):
            before = channels * width // 2
            layers += [
                nn.Conv2d(before, channels * width, 4, stride, 1, bias=False),
                nn.InstanceNorm2d(channels * width, affine=True),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels * 8, 1, 4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of patches."""
        result: Tensor = self.layers(images)
        return result


class AdversarialObjective:
    """Generator's loss; trains the discriminator beside it, one step for one.

    Args:
        name: of the stage.
        store: training pairs.
        config: settings; `adversarial` says which kind.
        accelerator: processes and device.
    """

    def __init__(self, name: str, store: PairStore, config: TrainConfig, accelerator: Accelerator) -> None:
        self.name, self.store, self.config, self.accelerator = name, store, config, accelerator
        self.settings = config.adversarial
        self.plan = ddim_plan(config.model.schedule, 1)
        device = store.clean.device
        self.discriminator = PatchDiscriminator(self.settings.channels).to(device)
        self.optimiser = torch.optim.Adam(
            self.discriminator.parameters(), lr=self.settings.learning_rate, betas=(0.5, 0.999)
        )

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"discriminator": self.discriminator.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undoes `state_dict`."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimiser.load_state_dict(state["optimiser"])

    def __call__(self, network: Denoiser, step: int) -> list[Term]:
        """The terms of a step."""
        parts = (self.accelerator.process_index, self.accelerator.num_processes)
        batch = draw_batch(self.store, self.config, self.name, step, *parts)
        model = self.config.model
        features = scene_features(batch.scene, model)
        coarse = no_coarse(features, model)
        target, _ = fine_target(coarse.code, batch.targets, model)
        noise = batch.randn(target.shape)
        fixed = fine_condition(features, coarse, model)
        sample, _ = solve(network, self.plan, noise, fixed, batch.scene.label)
        real, fake = (_images(values, coarse.code, batch, model) for values in (target, sample))
        context = features.full
        self._train_discriminator(torch.cat([real, context], 1), torch.cat([fake.detach(), context], 1), step)
        self.discriminator.requires_grad_(False)
        with self._autocast():
            logits = self.discriminator(torch.cat([fake, context], 1))
        self.discriminator.requires_grad_(True)
        deceived = F.softplus(-logits.float())
        terms = [Term("deceives", 1.0, deceived.sum(), torch.tensor(float(deceived.numel()), device=deceived.device))]
        if self.settings.l1_weight > 0:
            mask = torch.cat([batch.targets.both, batch.targets.known], 1)
            difference = (fake - real).abs() * mask
            terms.append(Term("l1", self.settings.l1_weight, difference.sum(), mask.sum()))
        return terms

    def _autocast(self) -> AbstractContextManager[Any]:
        # not fp16: without a scaler for its loss the discriminator's gradients would vanish in it
        return self.accelerator.autocast() if self.accelerator.mixed_precision == "bf16" else nullcontext()

    def _train_discriminator(self, real: Tensor, fake: Tensor, step: int) -> None:
        penalised = self.settings.r1 > 0 and step % self.settings.r1_every == 0
        real = real.detach().requires_grad_(penalised)
        with nullcontext() if penalised else self._autocast():
            judged = self.discriminator(real).float()
        with self._autocast():
            judged_fake = self.discriminator(fake).float()
        loss = F.softplus(-judged).mean() + F.softplus(judged_fake).mean()
        if penalised:
            (gradient,) = torch.autograd.grad(judged.sum(), real, create_graph=True)
            penalty = gradient.square().sum((1, 2, 3)).mean() / real[0, 0].numel()
            loss = loss + 0.5 * self.settings.r1 * self.settings.r1_every * penalty
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.accelerator.num_processes > 1:
            for parameter in self.discriminator.parameters():
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        self.optimiser.step()


def _images(sample: Tensor, coarse_code: Tensor, batch: Batch, model: TwoStageConfig) -> Tensor:
    """Code and hole field [N,2,H,W], zero where the pair says nothing about them."""
    _, code, hole = decode_fields(coarse_code, sample, model)
    code = (code / _CODE_RANGE).clamp(-2, 2) * batch.targets.both
    return torch.cat([code, hole * batch.targets.known], dim=1)
