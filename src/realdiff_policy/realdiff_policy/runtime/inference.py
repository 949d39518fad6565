"""Where a policy is asked: in this process at once, or in a process of its own while the robot moves on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from realdiff_policy.contract import Observation, Policy
from realdiff_policy.safety.reasons import Fault

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class InferenceResult:
    """What came of a request.

    Attributes:
        stamp_ns: Stamp of the observation that it was about.
        actions: What the policy returned; None where it failed.
        error: Why it failed; empty if it didn't.
        duration_s: How long the policy took.
    """

    stamp_ns: int
    actions: FloatArray | None
    error: str
    duration_s: float


class Inference(Protocol):
    """Asks a policy, one request at a time."""

    def submit(self, observation: Observation, seed: int) -> None:
        """Asks for a chunk; the answer comes from `poll`."""
        ...

    def poll(self) -> InferenceResult | None:
        """Returns the answer if it is there."""
        ...

    def problem(self) -> Fault | None:
        """Why requests can't be made; None if they can. Called every control step: also the place to mend it."""
        ...

    def forget(self) -> None:
        """Drops the request under way: its answer will not be returned."""
        ...

    def close(self) -> None:
        """Frees the policy."""
        ...


class InProcessInference:
    """Asks a policy in this process; `submit` returns when it has answered.

    Args:
        policy: The policy.
    """

    def __init__(self, policy: Policy) -> None:
        """Keeps the policy."""
        self._policy = policy
        self._result: InferenceResult | None = None

    def submit(self, observation: Observation, seed: int) -> None:
        """Runs the policy; its errors become part of the answer."""
        began = time.perf_counter()
        actions, error = ask(self._policy, observation, seed)
        self._result = InferenceResult(observation.stamp_ns, actions, error, time.perf_counter() - began)

    def poll(self) -> InferenceResult | None:
        """Returns the answer to the last request, once."""
        result, self._result = self._result, None
        return result

    def problem(self) -> Fault | None:
        """Nothing can keep this from answering."""
        return None

    def forget(self) -> None:
        """Drops the answer."""
        self._result = None

    def close(self) -> None:
        """There is nothing to free."""


def ask(policy: Policy, observation: Observation, seed: int) -> tuple[FloatArray | None, str]:
    """Runs a policy and catches what it raises: a policy is a stranger's code, and its errors must end in a hold.

    Returns:
        Its actions, or None and the error.
    """
    try:
        return np.asarray(policy.predict(observation, seed), dtype=np.float64), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
