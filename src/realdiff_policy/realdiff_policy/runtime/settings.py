"""Settings of the run time, with their defaults; the node's parameters are these."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from realdiff_core.config import Strict

Ensemble = Literal["newest", "average"]


class RuntimeSettings(Strict):
    """How observations become motion."""

    sync_tolerance_s: float = Field(default=0.02, gt=0, description="largest distance of colour and depth stamps")
    control_rate_hz: float = Field(default=50.0, gt=0, description="points of a trajectory per second")
    ensemble: Ensemble = Field(default="newest", description="newest chunk alone, or average of all that overlap")
    ensemble_decay: float = Field(default=0.01, ge=0, description="weight of the i-th oldest chunk is exp(−decay·i)")
    execute: int = Field(default=0, ge=0, description="rows to execute before the next chunk; 0: as the bundle says")
    blend_s: float = Field(default=0.3, gt=0, description="least time over which a new chunk takes over")
    brake_s: float = Field(default=0.4, gt=0, description="duration of the stop at the end of a chunk")
    lead_s: float = Field(default=0.0, ge=0, description="time that a trajectory needs to reach the controller")
    latency_s: float = Field(default=0.0, ge=0, description="simulated duration of an inference (in-process only)")
    policy_timeout_s: float = Field(default=1.0, gt=0, description="longest inference before the policy is silent")
    tracking_rad: float = Field(default=0.25, gt=0, description="largest distance of a joint from its set-point")
    recover_after_s: float = Field(default=0.5, gt=0, description="time without faults before a hold ends")
    stop_after_s: float = Field(default=30.0, gt=0, description="longest hold before a stop that needs a restart")
    most_holds: int = Field(default=10, gt=0, description="holds within a minute before such a stop")
    seed: int = Field(default=0, ge=0, description="seed of the policy's sampler")
