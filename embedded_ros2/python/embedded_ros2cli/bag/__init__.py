"""ros2 bag, on the rosbags library."""

from __future__ import annotations

import argparse

from ..cli import verb, verbs
from . import info, play, record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    sub = verbs(parser)
    info.add_arguments(verb(sub, "info", info.run, "Print information about a bag to the screen"))
    play.add_arguments(verb(sub, "play", play.run, "Play back ROS data from a bag"))
    record.add_arguments(verb(sub, "record", record.run, "Record ROS data to a bag"))
