#!/usr/bin/env bash
# Sources the ROS 2 of the image, the Franka drivers where they are, and hands the command to ./run.
set -e
source /opt/ros/jazzy/setup.bash
if [ -e /opt/franka/install/local_setup.bash ]; then
  source /opt/franka/install/local_setup.bash
fi
exec /workspace/run "$@"
