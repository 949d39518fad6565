"""Recording at scale: a pool of workers, the folder of episodes, and its index page."""
