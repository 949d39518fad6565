"""Sets up and enters the workspace: the library behind `./run`. Standard library only, Python 3.10 or newer."""
