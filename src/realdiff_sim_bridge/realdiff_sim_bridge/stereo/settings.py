"""Settings of the stereo camera: one camera in one situation, and the ranges from which such settings are drawn.

Two range files exist, ``stereo_train.yaml`` and ``stereo_evaluation.yaml``. Their *purpose* is part of the content, so
that renaming a file can't turn evaluation settings into training settings.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from realdiff_core.config import find_config, load_yaml
from realdiff_core.errors import ProvenanceError

Purpose = Literal["train", "evaluation"]
PURPOSES: tuple[Purpose, ...] = ("train", "evaluation")


class StereoSettings(BaseModel):
    """One camera unit in one situation (every value fixed).

    Lengths are in metres, angles as tangents, image quantities in pixels of the imager or fractions of full scale. The
    light unit is the radiance that an average projector dot of power 1 causes on a white surface 1 m away, frontally.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Geometry of the unit.
    baseline_m: float = Field(0.05, gt=0, description="left to right imager, metres")
    projector_offset_m: float = Field(0.029, description="projector's x in the left imager's frame, metres")
    near_m: float = Field(0.28, gt=0, description="closest depth the disparity search reaches")
    far_m: float = Field(10.0, gt=0, description="farther depths are reported as holes")
    # Projector.
    dots: int = Field(6000, ge=100, description="dots in the whole projected field")
    dot_sigma: float = Field(0.0022, gt=0, description="dot radius (1 sigma) as tangent of the angle")
    projector_power: float = Field(2.7, ge=0, description="of the average dot, in the light unit; 0 = off")
    speckle: float = Field(
        0.35, ge=0, description="laser speckle contrast, different for the two imagers, still while the scene is"
    )
    # Light and surface.
    ambient: float = Field(0.7, ge=0, description="diffuse ambient light in the light unit")
    ambient_direction: float = Field(
        0.4, ge=0, le=1, description="share of the ambient light that comes from one direction"
    )
    highlight: float = Field(1.0, ge=0, description="strength of the projector's own highlight, 1 = physical")
    reflection: float = Field(1.0, ge=0, description="strength of the mirrored surroundings on a perfect mirror")
    refraction_m: float = Field(0.002, ge=0, description="glass thickness × (1 − 1/n), metres; shifts what is behind")
    # Imager.
    exposure_target: float = Field(
        0.375, gt=0, le=1, description="full-scale share that the image's mean is exposed to"
    )
    exposure_max: float = Field(3.0, gt=0, description="longest exposure (full-scale shares per light unit)")
    gain_max: float = Field(8.0, ge=1, description="highest analogue gain after that")
    full_well_e: float = Field(5000, gt=0, description="electrons at full scale, gain 1")
    read_noise_e: float = Field(12, ge=0, description="electrons, 1 sigma, every frame anew")
    fixed_pattern: float = Field(0.006, ge=0, description="pixel response spread, 1 sigma, constant for a unit")
    blur_px: float = Field(0.6, ge=0, description="optical blur, 1 sigma")
    # Calibration error (smooth, constant for a unit).
    bias_px: float = Field(0.05, ge=0, description="disparity bias field, 1 sigma")
    epipolar_px: float = Field(0.1, ge=0, description="vertical misalignment field, 1 sigma")
    scale_error: float = Field(0.002, ge=0, description="relative baseline error, 1 sigma")
    # Matching.
    census_threshold: int = Field(4, ge=0, description="smaller differences of grey levels are equal in the census")
    small_penalty: int = Field(8, ge=1, le=55, description="P1, cost of a step of 1 px along a path (costs are 0…31)")
    large_penalty: int = Field(50, ge=2, le=150, description="P2, cost of a larger step")
    uniqueness: int = Field(8, ge=0, le=100, description="per cent by which the best cost must win")
    left_right_px: int = Field(1, ge=0, description="allowed left-right disagreement")
    confidence_window_px: int = Field(11, ge=3, description="window of the photometric confidence (odd)")
    confidence: float = Field(0.6, ge=0, le=1, description="least normalised correlation of the matched windows")
    noise_floor: float = Field(1.5, ge=0, description="texture below this many noise sigmas counts as none")
    texture_floor: float = Field(
        3.0, ge=0, description="texture below so many grey levels counts as none; decides which dark surfaces drop out"
    )
    saturation_share: float = Field(0.4, ge=0, le=1, description="windows with more saturated pixels are rejected")
    refinement: float = Field(
        0.9, ge=0, le=1, description="share of the sub-pixel error of the matching that is refined away"
    )
    edge_margin_px: float = Field(
        2.0, ge=0, description="pixels this near to a disparity jump are rejected (high-accuracy presets); < 2: none"
    )
    smooth_x_px: float = Field(3.0, ge=0, description="post filter along rows, 1 sigma")
    smooth_y_px: float = Field(1.5, ge=0, description="post filter along columns, 1 sigma")
    island_px: int = Field(60, ge=0, description="regions of at most so many pixels become holes")
    step_px: float = Field(1 / 32, gt=0, description="disparity quantisation")

    @model_validator(mode="after")
    def _check(self) -> StereoSettings:
        if self.confidence_window_px % 2 == 0:
            raise ValueError(f"confidence_window_px must be odd, got {self.confidence_window_px}")
        if self.large_penalty < self.small_penalty:
            raise ValueError(f"large_penalty ({self.large_penalty}) is below small_penalty ({self.small_penalty})")
        if self.far_m <= self.near_m:
            raise ValueError(f"far_m ({self.far_m}) must be larger than near_m ({self.near_m})")
        return self


Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
_ODD = {"confidence_window_px"}
_WHOLE = _ODD | {
    "dots",
    "uniqueness",
    "island_px",
    "small_penalty",
    "large_penalty",
    "census_threshold",
    "left_right_px",
}
_LOGARITHMIC = {
    "ambient",
    "full_well_e",
    "read_noise_e",
    "exposure_max",
    "projector_power",
    "noise_floor",
    "texture_floor",
}


class StereoRanges(BaseModel):
    """Ranges of `StereoSettings` for one purpose.

    `fixed` holds single values, `ranges` holds ``[low, high]``; names are those of `StereoSettings`. Camera units
    (dot pattern, calibration error, pixel response) of the two purposes never coincide: `unit_seed` draws from disjoint
    blocks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    purpose: Purpose
    units: int = Field(16, ge=1, le=1_000_000, description="how many different camera units are drawn from")
    fixed: dict[str, float] = Field(default_factory=dict)
    ranges: dict[str, Interval] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> StereoRanges:
        for name in [*self.fixed, *self.ranges]:
            if name not in StereoSettings.model_fields:
                raise ValueError(f"unknown setting {name!r}; known: {', '.join(StereoSettings.model_fields)}")
        if both := set(self.fixed) & set(self.ranges):
            raise ValueError(f"given twice, fixed and as a range: {', '.join(sorted(both))}")
        for name, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(f"{name}: [{low}, {high}] is not an interval")
            if name in _LOGARITHMIC and low <= 0:
                raise ValueError(f"{name}: drawn logarithmically, so its lower end must be > 0, got {low}")
        for end in (0, 1):  # both ends must be valid settings
            self._settings({name: interval[end] for name, interval in self.ranges.items()})
        return self

    def _settings(self, values: dict[str, float]) -> StereoSettings:
        merged: dict[str, float] = {**self.fixed, **values}
        for name in _WHOLE & set(merged):
            merged[name] = round(merged[name])
            if name in _ODD:
                merged[name] = int(merged[name]) // 2 * 2 + 1
        return StereoSettings.model_validate(merged)

    def sample(self, rng: np.random.Generator) -> StereoSettings:
        """Draw settings: uniform, or log-uniform for quantities that span decades."""
        drawn: dict[str, float] = {}
        for name in sorted(self.ranges):  # sorted: the order of keys in the file must not matter
            low, high = self.ranges[name]
            if name in _LOGARITHMIC:
                drawn[name] = float(np.exp(rng.uniform(math.log(low), math.log(high))))
            else:
                drawn[name] = float(rng.uniform(low, high))
        return self._settings(drawn)

    def middle(self) -> StereoSettings:
        """The settings in the middle of every range (geometric where drawn logarithmically)."""
        return self._settings(
            {
                name: math.sqrt(low * high) if name in _LOGARITHMIC else (low + high) / 2
                for name, (low, high) in self.ranges.items()
            }
        )

    def unit_seed(self, rng: np.random.Generator) -> int:
        """Draw one camera unit of this purpose; the units of two purposes are disjoint."""
        return PURPOSES.index(self.purpose) * 1_000_000 + int(rng.integers(self.units))


def load_ranges(name_or_path: str) -> StereoRanges:
    """Load ``train``, ``evaluation`` or a YAML file of ranges.

    Raises:
        ConfigError: the file is missing or invalid.
    """
    path = find_config(f"cameras/stereo_{name_or_path}.yaml") if name_or_path in PURPOSES else Path(name_or_path)
    return load_yaml(path, StereoRanges)


def require_trainable(ranges: StereoRanges) -> None:
    """Refuse settings that stand for the real camera in evaluations.

    A model trained on them would be judged on its own training distribution.

    Raises:
        ProvenanceError: `ranges` are not meant for training.
    """
    if ranges.purpose != "train":
        raise ProvenanceError(
            "these stereo settings are kept for evaluation and must not produce training pairs",
            expected="settings with purpose: train",
            got=f"purpose: {ranges.purpose}",
            next_step="use --settings train, or mark the output as evaluation data with --purpose evaluation",
        )
