"""What needs several rooms at once: the demonstration, closed-loop rollouts, benchmarks."""
