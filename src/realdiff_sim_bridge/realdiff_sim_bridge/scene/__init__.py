"""Declarative MuJoCo scenes: robot, table, objects, cameras and lights assembled from a task configuration."""
