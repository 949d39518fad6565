"""Simulated FR3 and D435 behind the names of the real drivers: scenes, experts, recording, bridge node."""
