"""The driver-identical bridge: `session` runs the simulation, `node` puts it on the ROS graph."""
