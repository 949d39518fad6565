"""The one place that imports Open3D, which only the making of pairs needs."""

from __future__ import annotations

from types import ModuleType

from realdiff_core.errors import RealdiffError


def import_open3d() -> ModuleType:
    """Return the ``open3d`` module.

    Raises:
        RealdiffError: it is not installed, or a system library that it needs is missing.
    """
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise RealdiffError(
            "fusing depth frames needs Open3D, which can't be imported",
            expected="open3d 0.20 and its system libraries libusb-1.0 and libGL",
            got=str(error),
            next_step="pip install -r requirements/fusion.txt (and: apt install libusb-1.0-0 libgl1)",
        ) from error
    module: ModuleType = open3d
    return module
