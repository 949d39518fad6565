"""RGB-D policies for the FR3: training, export, run time, safety gate, robot adapter."""
