"""Simulated Franka FR3 and RealSense D435 behind the names of the real drivers: scenes, tasks, experts, episode recording, bridge node."""
