"""Limits of the simulated FR3: those of franka_description 1.0.1, which the robot enforces by itself."""

from __future__ import annotations

import numpy as np

LOWER = np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159])
"""Lowest joint positions [rad]."""

UPPER = np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159])
"""Highest joint positions [rad]."""

VELOCITY = np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])
"""Highest joint speeds [rad/s]."""
