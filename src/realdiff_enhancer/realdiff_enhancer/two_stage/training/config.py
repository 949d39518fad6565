"""Settings of a training run: layered YAML, checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..config import TwoStageConfig

#: Stages in the order in which they run.
StageName = Literal["coarse", "base", "fine", "few_coarse", "few_fine"]
STAGES: tuple[StageName, ...] = ("coarse", "base", "fine", "few_coarse", "few_fine")


class PackConfig(BaseModel):
    """One pack of training pairs: file, which kind of noise it shows, and its share of the batches."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: Path
    source: str = "real"
    share: float = Field(1.0, gt=0)


class AdversarialConfig(BaseModel):
    """Adversarial baselines in place of diffusion (training/adversarial.py).

    Attributes:
        kind: "none" trains by diffusion.
        l1_weight: of the L1 distance to the real sample; 100 in Pix2Pix.
        r1: weight of the R1 penalty, applied every `r1_every` steps.
        channels: of the discriminator's first layer.
        learning_rate: of the discriminator.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["none", "pix2pix", "gan"] = "none"
    l1_weight: float = Field(100.0, ge=0)
    r1: float = Field(0.0, ge=0)
    r1_every: int = Field(16, ge=1)
    channels: int = Field(64, ge=4)
    learning_rate: float = Field(2e-4, gt=0)


class TrainConfig(BaseModel):
    """Settings of a training run.

    Attributes:
        packs: training pairs.
        model: the model's own settings.
        initial: model folder to start from (fine-tuning); its networks must have the shapes of `model`.
        adversarial: trains an adversarial baseline instead; needs model.stages "one" and model.direct.
        seed: seed of weights, batches and noise.
        coarse_steps, fine_steps: optimiser steps of each stage.
        base_steps: those of the unconditional base of ControlNet conditioning.
        distil_steps: optimiser steps of the distillation of each stage to `distil_to` sampling steps; 0 for none.
        distil_to: sampling steps a stage that the distilled networks serve, each half of the one before.
        distil_substeps: teacher steps that the first of them replaces by one.
        distil_learning_rate: peak learning rate of the distillation.
        batch: crops a step, over all processes.
        crop: height and width of the crops [px], multiples of 32; at most the padded frame is taken.
        learning_rate: peak of the cosine schedule.
        warmup_steps: at most so many, and at most a tenth of the stage.
        ema_decay: largest decay of the weights' moving average.
        dequantise: take the camera's rounding of disparity and depth out of the recorded depth before learning from it
            (training/dequantise.py): samples are rounded as the camera rounds, and would have it twice.
        depth_scale: range of the factor by which clean depth is scaled while the error keeps its disparity.
        colour_dropout: share of the crops whose colour is hidden.
        brightness: luminance is multiplied by exp of up to ± so much.
        draws: coarse samples kept for each training frame.
        draw_steps: sampler steps of those.
        round_trip_limit: largest allowed ratio of the codec's error to the residual, in any depth bin of a pack.
        calibrate_steps: numbers of sampling steps that are calibrated after training.
        calibration_frames: frames used for that; 0 for none.
        calibrate_on: which ones. A model of many pairs has the same variance on its training frames as on others; one
            that is fine-tuned on a few remembers them, and needs frames that it hasn't seen.
        validation_frames: validation frames on which every one of these numbers of steps is looked at; 0 for none.
        precision: of the networks in training on a GPU.
        acceleration: "graphs" records the network as CUDA graphs, "compile" fuses kernels by torch.compile, "none";
            what fails falls back to "none" with a message.
        accelerated_stages: stages that are accelerated; only long ones are worth the minutes of a compilation.
        log_every: steps between numbers in the curves.
        sample_every: steps between pictures in the curves; 0 for none.
        checkpoint_every_s: seconds between checkpoints.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    packs: tuple[PackConfig, ...] = Field(min_length=1)
    model: TwoStageConfig = TwoStageConfig()
    initial: Path | None = None
    adversarial: AdversarialConfig = AdversarialConfig()
    seed: int = Field(0, ge=0)
    coarse_steps: int = Field(4000, ge=0)
    fine_steps: int = Field(6000, ge=1)
    base_steps: int = Field(0, ge=0)
    distil_steps: int = Field(0, ge=0)
    distil_to: tuple[int, ...] = (4, 2, 1)
    distil_substeps: int = Field(4, ge=2)
    distil_learning_rate: float = Field(1e-4, gt=0)
    batch: int = Field(32, ge=1)
    crop: tuple[int, int] = (352, 480)
    learning_rate: float = Field(4e-4, gt=0)
    warmup_steps: int = Field(300, ge=1)
    ema_decay: float = Field(0.999, gt=0, lt=1)
    dequantise: bool = True
    depth_scale: tuple[float, float] = (0.75, 1.33)
    colour_dropout: float = Field(0.3, ge=0, le=1)
    brightness: float = Field(0.5, ge=0)
    draws: int = Field(6, ge=1)
    draw_steps: int = Field(12, ge=2)
    round_trip_limit: float = Field(0.35, gt=0)
    calibrate_steps: tuple[int, ...] = (1, 2, 4, 8, 50)
    calibration_frames: int = Field(0, ge=0)
    calibrate_on: Literal["training", "validation"] = "training"
    validation_frames: int = Field(0, ge=0)
    precision: Literal["bf16", "fp16", "no"] = "bf16"
    acceleration: Literal["none", "graphs", "compile"] = "none"
    accelerated_stages: tuple[StageName, ...] = STAGES
    log_every: int = Field(50, ge=1)
    sample_every: int = Field(1000, ge=0)
    checkpoint_every_s: float = Field(120.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if any(side % 32 for side in self.crop):
            raise ValueError(f"crop must be multiples of 32 px, got {list(self.crop)}")
        unknown = {p.source for p in self.packs} - set(self.model.sources)
        if unknown:
            raise ValueError(f"packs have sources {sorted(unknown)} that model.sources {self.model.sources} lacks")
        if any(a != 2 * b for a, b in zip(self.distil_to[:-1], self.distil_to[1:], strict=True)):
            raise ValueError(f"distil_to must halve from one to the next, e.g. [4, 2, 1], got {list(self.distil_to)}")
        adversarial = self.adversarial.kind != "none"
        if adversarial != self.model.direct or (adversarial and (self.model.stages == "two" or self.distil_steps)):
            raise ValueError(
                "an adversarial model needs adversarial.kind, model.direct: true, model.stages: one and "
                "distil_steps: 0, and no other model has model.direct"
            )
        control = self.model.fine.kind == "control"
        if control and (self.model.stages == "two" or not self.base_steps or self.distil_steps or self.model.direct):
            raise ValueError("ControlNet conditioning needs model.stages: one, base_steps, and distil_steps: 0")
        if self.model.coarse.kind == "control":
            raise ValueError('model.coarse.kind "control" is not possible: only the fine stage has a control branch')
        if self.model.few_steps:
            raise ValueError("model.few_steps is set by the distillation: use distil_steps and distil_to")
        return self

    def stage_steps(self, stage: StageName) -> int:
        """Optimiser steps of a stage; 0 where it doesn't take place."""
        if stage in ("coarse", "few_coarse") and self.model.stages == "one":
            return 0
        return {
            "coarse": self.coarse_steps,
            "base": self.base_steps,
            "fine": self.fine_steps,
            "few_coarse": self.distil_steps,
            "few_fine": self.distil_steps,
        }[stage]
