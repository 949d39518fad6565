"""Typed settings of the two-stage model; saved with the weights, so that a model is used as it was trained."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CodecConfig(_Strict):
    """Representation of residuals: disparity pixels, compressed by asinh (the constants are ours).

    Attributes:
        scale_px: residual at which the compression turns from linear to logarithmic [px]; about one sensor σ.
        limit_px: largest residual kept [px]; larger ones are clipped.
        near_m: nearest depth that the sensor reports [m]; nearer pixels become holes.
        far_m: farthest depth that is modelled [m]; farther pixels are left alone.
        disparity_step_px: quantisation of the sensor's disparity [px].
        native_fx_px: focal length of the sensor's own depth stream, on whose pixel grid the noise arises [px].
        baseline_m: its baseline [m].
    """

    scale_px: float = Field(0.15, gt=0)
    limit_px: float = Field(32.0, gt=0)
    near_m: float = Field(0.28, gt=0)
    far_m: float = Field(4.0, gt=0)
    disparity_step_px: float = Field(1.0 / 32.0, ge=0)
    native_fx_px: float = Field(384.0, gt=0)
    baseline_m: float = Field(0.05, gt=0)

    @property
    def disparity_factor(self) -> float:
        """f·B of the sensor's own depth stream [px·m]."""
        return self.native_fx_px * self.baseline_m


class GuidanceConfig(_Strict):
    """Frequency-guided supervision and discrepancy-guided optimisation (paper 3.2, 3.3; values are ours unless noted).

    Attributes:
        filter: "gaussian_low_pass" keeps low and middle frequencies, as the paper's text means; "high_pass" is the
            paper's literal wording and serves as an ablation.
        sigma_px: spatial standard deviation of the low-pass at full resolution [px]; the cut-off frequency is
            f_c = 1 / (2 pi sigma_px) cycles a pixel.
        block_px: side of the blocks over which the discrepancy is averaged [px].
        discrepancy_limit: largest discrepancy of one pixel [code units]; holes count as this much.
        discrepancy_scale: block discrepancy that maps to 1 [code units]; measured in training and saved.
        threshold: tau: blocks over it belong to the unsatisfactory set [0, 1]; measured in training and saved.
        weight_unsatisfactory: lambda_u.
        weight_satisfactory: lambda_s.
        discrepancy: False takes the discrepancy away (ablation "without DGO"): stage II sees no region map and weighs
            all regions alike.
        edge_weight: extra weight of the fine loss within 8 px of a depth edge. It depends on the condition alone, so it
            moves capacity to the edges without biasing what is learned there.
    """

    filter: Literal["gaussian_low_pass", "high_pass", "none"] = "gaussian_low_pass"
    sigma_px: float = Field(6.0, gt=0)
    block_px: int = Field(16, ge=8, multiple_of=8)
    discrepancy_limit: float = Field(3.0, gt=0)
    discrepancy_scale: float = Field(1.0, gt=0)
    threshold: float = Field(0.35, ge=0, le=1)
    weight_unsatisfactory: float = Field(1.5, ge=0)
    weight_satisfactory: float = Field(0.5, ge=0)
    discrepancy: bool = True
    edge_weight: float = Field(0.0, ge=0)


class NetworkConfig(_Strict):
    """One denoiser on a grid of `stride` pixels.

    Attributes:
        kind: "compact" is our own small U-Net; "control" the same with ControlNet conditioning, for the fine stage of a
            single-stage model (baseline); "stable_diffusion" the U-Net of a local Stable Diffusion folder.
        folder: that folder, in diffusers' layout; its unet/ is used, and empty_prompt.safetensors if it has one.
        stride: pixels per cell of the grid; of the latents with "stable_diffusion".
        channels: of the compact U-Net, level by level.
        layers_per_block: of the compact U-Net.
        norm_groups: of its group normalisation.
        attention: self-attention on the coarsest level of the compact U-Net.
        adaptive_kernels: kernels in the bank that each 3x3 convolution in the ResNet blocks of the compact U-Net mixes
            for each sample (GigaGAN); 1 means ordinary convolutions.
    """

    kind: Literal["compact", "control", "stable_diffusion"] = "compact"
    folder: str | None = None
    stride: int = Field(4, ge=1)
    channels: tuple[int, ...] = (64, 96, 112, 128)
    layers_per_block: int = Field(1, ge=1)
    norm_groups: int = Field(16, ge=1)
    attention: bool = False
    adaptive_kernels: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _adaptive(self) -> NetworkConfig:
        if self.adaptive_kernels > 1 and self.kind != "compact":
            raise ValueError(
                f'adaptive_kernels {self.adaptive_kernels} needs kind "compact", got kind "{self.kind}": '
                "take adaptive_kernels: 1 for it"
            )
        return self


class ConditionConfig(_Strict):
    """What the networks see besides depth, local relief and validity.

    Attributes:
        geometry: slope and incidence, distance to depth edges, foreground beside background, occlusion shadow of the
            second imager: computed, so that few training frames suffice to learn what depends on them.
        colour: luminance and horizontal texture of the registered colour image, where there is one.
        style: three numbers about the camera's setting (`StyleConfig`), so that presets are one model's conditions.
    """

    geometry: bool = False
    colour: bool = False
    style: bool = False


class StyleConfig(_Strict):
    """How a camera is set, as three statistics; the condition of sampling and measured per frame in training.

    Attributes:
        edge_holes: share of holes within 4 px of depth edges.
        far_holes: share of holes farther than 32 px from them.
        sigma_px: robust σ of the residual there [px of disparity].
    """

    edge_holes: float = Field(0.35, ge=0, le=1)
    far_holes: float = Field(0.01, ge=0, le=1)
    sigma_px: float = Field(0.1, gt=0, le=5)


class CameraSetting(StyleConfig):
    """What a camera profile says of its camera under `noise.two_stage`: a style, and

    Attributes:
        stream_fx_px: focal length of the camera's own depth stream [px], on whose pixel grid and in whose disparity the
            noise arises; None for the training camera's (`CodecConfig.native_fx_px`). To be named where depth comes
            aligned to colour, or resized, from a stream of another resolution: its noise is finer or coarser, of the
            same size in metres (`camera.on_stream`).
        weights: profile whose weights are taken; None for the profile's own.
    """

    stream_fx_px: float | None = Field(None, ge=100, le=2000)
    weights: str | None = None


class HoleConfig(_Strict):
    """How the fine stage represents holes.

    Attributes:
        target: "bits" are analog bits, one a pixel; "distance" is the signed distance to the outline of the hole, a
            smooth field that few sampling steps keep and that can be calibrated by an offset.
        factor: pixels per cell of the distance field (bits have 1).
        reach_px: distance at which the field saturates [px].
        smooth_px: radius of the box mean that the sampled field goes through before its level decides [px]. Sampling
            leaves noise of single pixels in it, which its level would turn into holes that cameras don't have.
    """

    target: Literal["bits", "distance"] = "bits"
    factor: Literal[1, 2] = 1
    reach_px: int = Field(4, ge=1, le=16)
    smooth_px: int = Field(0, ge=0, le=8)


class StepCalibration(_Strict):
    """Correction of what a number of steps gets wrong, measured after training.

    Attributes:
        steps: sampling steps a stage.
        gain: factor of the residual [px of disparity], so that its robust σ is the real one.
        band_gain: further factors of its bands, from short wavelengths to long (`bands.BAND_RADII`), so that each has
            the real strength; none: 1.
        hole_offset: level over which the hole field means a hole, by proximity to a depth edge (7 levels, far to near),
            so that the hole rate is the real one.
    """

    steps: int = Field(ge=1)
    gain: float = Field(1.0, gt=0)
    band_gain: tuple[float, ...] = ()
    hole_offset: tuple[float, ...] = Field((0.0,) * 7, min_length=7, max_length=7)


class ScheduleConfig(_Strict):
    """Noise schedule: v-prediction, zero terminal SNR, shifted in log-SNR.

    Attributes:
        train_steps: discrete diffusion steps.
        log_snr_shift: added to the log-SNR of the cosine schedule; negative means more noise.
        steps: sampling steps of the coarse and the fine stage when the user names none.
    """

    train_steps: int = Field(1000, ge=10)
    log_snr_shift: float = -1.386
    steps: int = Field(8, ge=1)


class TemporalConfig(_Strict):
    """Temporal coherence of the initial noise: a part fixed to the surface, and AR(1) over the frames of a stream.

    Two frames k apart that show the same surface have the correlation s + (1 − s)·aᵏ; `statistics --fit-temporal` fits
    both to a real clip of a camera at rest.

    Attributes:
        static_share: s: share of the variance that is the same in all frames of a stream.
        surface_step_px: change of the clean disparity at a place that gives it another fixed part [px of the sensor's
            own depth stream]. The error of sub-pixel interpolation and matching goes with what is seen, not with the
            pixel: without this a moved object or camera would slide under a standing pattern.
        correlation: a: correlation of the rest between consecutive frames.
        history: frames after which its sum is cut off.
    """

    static_share: float = Field(0.0, ge=0, le=1)
    surface_step_px: float = Field(0.5, gt=0)
    correlation: float = Field(0.9, ge=0, lt=1)
    history: int = Field(20, ge=0)


class TwoStageConfig(_Strict):
    """Everything that defines a trained two-stage model, besides its weights.

    Attributes:
        sources: names of the kinds of noise that the networks tell apart (class embedding), e.g. real and simulated.
        source: the one that is generated.
        hole_scale: amplitude of the analog hole bit or of the distance field.
        stages: "two", or "one" for a single stage that diffuses the whole residual (the end-to-end baseline).
        residual_px: pixels per cell of the fine residual field: a real residual carries next to nothing finer than 2
            away from edges, and little finer than 4.
        direct: the network makes its sample in one evaluation (adversarial baselines): one step, no other number.
        few_steps: steps a stage that distilled networks exist for, e.g. (4, 2, 1); each one's half comes after it.
        calibration: measured corrections, by number of steps.
        style: the camera's setting that is generated where `condition.style` is on.
    """

    format_version: Literal[1] = 1
    stages: Literal["two", "one"] = "two"
    codec: CodecConfig = CodecConfig()
    guidance: GuidanceConfig = GuidanceConfig()
    coarse: NetworkConfig = NetworkConfig(stride=8, channels=(48, 96, 112))
    fine: NetworkConfig = NetworkConfig(stride=4, channels=(32, 64, 128, 144))
    condition: ConditionConfig = ConditionConfig()
    style: StyleConfig = StyleConfig()
    holes: HoleConfig = HoleConfig()
    residual_px: Literal[2, 4] = 2
    schedule: ScheduleConfig = ScheduleConfig()
    direct: bool = False
    few_steps: tuple[int, ...] = ()
    calibration: tuple[StepCalibration, ...] = ()
    temporal: TemporalConfig = TemporalConfig()
    sources: tuple[str, ...] = ("real", "simulated")
    source: str = "real"
    hole_scale: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _halving(self) -> TwoStageConfig:
        if any(a != 2 * b for a, b in pairwise(self.few_steps)):
            raise ValueError(f"few_steps must halve from one to the next, e.g. [4, 2, 1], got {list(self.few_steps)}")
        if self.source not in self.sources:
            raise ValueError(f"source {self.source!r} is not one of sources {list(self.sources)}")
        return self

    def calibrated(self, steps: int) -> StepCalibration:
        """The correction for a number of steps: the nearest one measured (in ratio), or none."""
        measured = [c for c in self.calibration if 0.7 <= c.steps / steps <= 1.5]
        return min(measured, key=lambda c: abs(c.steps - steps), default=StepCalibration(steps=steps))
