"""A tiny training set and settings that train in seconds; also a program, so that tests can kill it or run several."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

SIZE = (96, 128)

SETTINGS: dict[str, Any] = {
    "model": {
        "coarse": {"stride": 8, "channels": [8, 8], "norm_groups": 4},
        "fine": {"stride": 4, "channels": [8, 8], "norm_groups": 4},
        "condition": {"geometry": True, "colour": True, "style": True},
        "holes": {"target": "distance"},
        "guidance": {"edge_weight": 1.0},
    },
    "coarse_steps": 4,
    "fine_steps": 4,
    "distil_steps": 6,
    "batch": 4,
    "crop": [64, 64],
    "draws": 2,
    "draw_steps": 3,
    "round_trip_limit": 10.0,
    "calibrate_steps": [2, 3],
    "calibration_frames": 2,
    "validation_frames": 1,
    "log_every": 1,
    "sample_every": 4,
}


def make_pack(path: Path, count: int = 5, seed: int = 0) -> None:
    """Pairs of a box before a wall: correlated disparity noise, holes at the box's edges."""
    from realdiff_enhancer.data.pairs import PairPack

    rng = np.random.default_rng(seed)
    clean = np.full((count, *SIZE), 1.2, np.float32)
    for depth in clean:
        y, x = rng.integers(10, 50, 2)
        depth[y : y + 30, x : x + 40] = rng.uniform(0.5, 0.8)
    noise = gaussian_filter(rng.standard_normal(clean.shape), (0, 4, 4))
    noisy = 19.2 / (19.2 / clean + 0.15 * noise / noise.std())
    step = np.abs(np.diff(clean, axis=2, prepend=clean[:, :, :1])) > 0.1
    noisy[gaussian_filter(step.astype(np.float32), (0, 2, 2)) > 0.1] = 0
    PairPack(
        clean_01mm=np.rint(clean * 1e4).astype(np.uint16),
        noisy_mm=np.rint(noisy * 1e3).astype(np.uint16),
        K=np.array([[384.0, 0, 64], [0, 384.0, 48], [0, 0, 1]]),
        baseline_m=0.05,
        source="tiny",
        frames=np.arange(count),
        windows=np.arange(count),
        validation=np.arange(count) == count - 1,
        grey=rng.integers(0, 255, (count, SIZE[0] // 2, SIZE[1] // 2)).astype(np.uint8),
    ).save(path)


def settings(pack: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a tiny run; `model` changes are merged."""
    merged = {**SETTINGS, "packs": [{"path": str(pack)}], **changes}
    merged["model"] = {**SETTINGS["model"], **changes.get("model", {})}
    return merged


def main() -> None:
    """`tiny_training.py PACK RUN [EXIT_AT]`: trains; dies without warning before the step `stage:number`."""
    import os

    from realdiff_enhancer.two_stage.training import TrainConfig, objectives, train_run

    pack, run = Path(sys.argv[1]), Path(sys.argv[2])
    if len(sys.argv) > 3:
        stage, number = sys.argv[3].split(":")
        draw = objectives.draw_batch

        def fatal(store: Any, config: Any, name: str, step: int, *rest: int) -> Any:
            if (name, step) == (stage, int(number)):
                os._exit(9)
            return draw(store, config, name, step, *rest)

        objectives.draw_batch = fatal  # type: ignore[assignment]
    train_run(TrainConfig.model_validate(settings(pack, checkpoint_every_s=1e-6)), run)


if __name__ == "__main__":
    main()
