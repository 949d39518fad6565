"""Alignment of a fixed camera to the robot's base from silhouettes of the robot (render and compare)."""
