"""The robot on the ROS graph: trajectories, gripper, error recovery, going home; and the libfranka route."""
