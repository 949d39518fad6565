"""Closed-loop trials of a policy in the simulator, through the run time that the node uses."""
