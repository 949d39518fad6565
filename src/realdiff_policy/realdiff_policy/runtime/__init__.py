"""The run time: observations in, safe motion out; the same for the node and for rollouts in simulation."""

from realdiff_policy.runtime.inference import Inference, InProcessInference
from realdiff_policy.runtime.runner import Command, PolicyRunner, RunState
from realdiff_policy.runtime.settings import RuntimeSettings

__all__ = ["Command", "InProcessInference", "Inference", "PolicyRunner", "RunState", "RuntimeSettings"]
