"""Typed settings of the two-stage model; saved with the weights, so that a model is used as it was trained."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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
    """

    filter: Literal["gaussian_low_pass", "high_pass", "none"] = "gaussian_low_pass"
    sigma_px: float = Field(6.0, gt=0)
    block_px: int = Field(16, ge=8, multiple_of=8)
    discrepancy_limit: float = Field(3.0, gt=0)
    discrepancy_scale: float = Field(1.0, gt=0)
    threshold: float = Field(0.35, ge=0, le=1)
    weight_unsatisfactory: float = Field(1.5, ge=0)
    weight_satisfactory: float = Field(0.5, ge=0)


class NetworkConfig(_Strict):
    """One compact U-Net on a grid of `stride` pixels."""

    stride: int = Field(4, ge=1)
    channels: tuple[int, ...] = (64, 96, 112, 128)
    layers_per_block: int = Field(1, ge=1)
    norm_groups: int = Field(16, ge=1)


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
    """Temporal coherence of the initial noise: AR(1) over the frames of a stream, cut off after `history` frames."""

    correlation: float = Field(0.9, ge=0, lt=1)
    history: int = Field(20, ge=0)


class TwoStageConfig(_Strict):
    """Everything that defines a trained two-stage model, besides its weights.

    Attributes:
        sources: names of the kinds of noise that the networks tell apart (class embedding), e.g. real and simulated.
        source: the one that is generated.
        hole_scale: amplitude of the analog hole bit.
    """

    format_version: int = 1
    codec: CodecConfig = CodecConfig()
    guidance: GuidanceConfig = GuidanceConfig()
    coarse: NetworkConfig = NetworkConfig(stride=8, channels=(48, 96, 112))
    fine: NetworkConfig = NetworkConfig(stride=4, channels=(32, 64, 128, 144))
    schedule: ScheduleConfig = ScheduleConfig()
    temporal: TemporalConfig = TemporalConfig()
    sources: tuple[str, ...] = ("real", "simulated")
    source: str = "real"
    hole_scale: float = Field(1.0, gt=0)
