"""Packs of clean/noisy depth pairs for training: one compressed file, read with NumPy alone."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from realdiff_core.errors import ConfigError, OutputError, RealdiffError

#: Metres per unit of the two arrays.
CLEAN_UNIT_M = 1e-4
NOISY_UNIT_M = 1e-3

# Arrays under names with this ending are stored as byte planes of differences along the rows, two thirds of the size.
_PLANES = "_planes"


def refuse_other_baseline(pairs_m: float, wanted_m: float, *, whose: str, where: Path, next_step: str) -> None:
    """Refuse pairs of a camera with another stereo baseline: their noise in depth would have another size.

    Args:
        pairs_m: baseline of the pairs [m].
        wanted_m: the baseline that is needed [m].
        whose: what has that one, in words.
        where: file or folder of the pairs.
        next_step: what to do.

    Raises:
        ConfigError: see above.
    """
    if not math.isclose(pairs_m, wanted_m, rel_tol=1e-3):
        raise ConfigError(
            "the pairs are of another camera, with another stereo baseline",
            where=where,
            expected=f"{1e3 * wanted_m:g} mm, that of {whose}",
            got=f"{1e3 * pairs_m:g} mm",
            next_step=next_step,
        )


@dataclass(frozen=True)
class PairPack:
    """Clean/noisy depth pairs of one camera.

    Attributes:
        clean_01mm: uint16 [N,H,W], 0.1 mm, 0 = unknown (to be left out of every loss and metric).
        noisy_mm: uint16 [N,H,W], 1 mm as recorded, 0 = hole.
        K: float64 [3,3], px, of these images.
        baseline_m: stereo baseline, so that disparity = K[0,0] · baseline_m / depth.
        source: name of the sequence, or of several joined by "+".
        frames: int64 [N], the source's frame numbers.
        windows: int64 [N], first frame number of the fusion window of each pair; pairs of one window are alike.
        validation: bool [N], kept out of training (the last windows of each source).
        licence: licence of the source images, "" if not stated.
        grey: uint8 [N,H',W'] luminance of the colour image where the pack has one, else None.
    """

    clean_01mm: npt.NDArray[np.uint16]
    noisy_mm: npt.NDArray[np.uint16]
    K: npt.NDArray[np.float64]
    baseline_m: float
    source: str
    frames: npt.NDArray[np.int64]
    windows: npt.NDArray[np.int64]
    validation: npt.NDArray[np.bool_]
    licence: str = ""
    grey: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            RealdiffError: shapes or types disagree.
        """
        n = len(self.clean_01mm)
        problems = []
        if self.clean_01mm.ndim != 3 or self.clean_01mm.shape != self.noisy_mm.shape:
            problems.append(f"clean_01mm {self.clean_01mm.shape} and noisy_mm {self.noisy_mm.shape}")
        if self.clean_01mm.dtype != np.uint16 or self.noisy_mm.dtype != np.uint16:
            problems.append(f"types {self.clean_01mm.dtype} and {self.noisy_mm.dtype}")
        if self.K.shape != (3, 3):
            problems.append(f"K {self.K.shape}")
        if not (np.isfinite(self.baseline_m) and self.baseline_m > 0):
            problems.append(f"baseline_m {self.baseline_m}")
        problems += [
            f"{name} {array.shape}"
            for name, array in (("frames", self.frames), ("windows", self.windows), ("validation", self.validation))
            if array.shape != (n,)
        ]
        if self.grey is not None and len(self.grey) != n:
            problems.append(f"grey {self.grey.shape}")
        if problems:
            raise RealdiffError(
                "the parts of a pair pack do not fit together",
                where=self.source or None,
                expected="uint16 [N,H,W] twice, K [3,3], a positive baseline, [N] frames, windows, validation",
                got="; ".join(problems),
                next_step="pack the pair folders again with pack_pairs",
            )

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.clean_01mm)

    @property
    def disparity_factor(self) -> float:
        """fx · baseline in px·m."""
        return float(self.K[0, 0]) * self.baseline_m

    def training_indices(self) -> npt.NDArray[np.int64]:
        """Indices of the pairs to train on, int64."""
        return np.flatnonzero(~self.validation).astype(np.int64)

    def validation_indices(self) -> npt.NDArray[np.int64]:
        """Indices of the pairs kept out of training, int64; may be empty."""
        return np.flatnonzero(self.validation).astype(np.int64)

    def clean_m(self, index: int) -> npt.NDArray[np.float32]:
        """Clean depth of a pair: float32 [H,W], m, NaN = unknown."""
        return _metres(self.clean_01mm[index], CLEAN_UNIT_M)

    def noisy_m(self, index: int) -> npt.NDArray[np.float32]:
        """Recorded depth of a pair: float32 [H,W], m, NaN = hole."""
        return _metres(self.noisy_mm[index], NOISY_UNIT_M)

    def save(self, path: Path) -> int:
        """Write the pack as a compressed .npz, without loss, complete or not at all.

        Returns:
            Bytes written.

        Raises:
            OutputError: the name does not end in .npz.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise OutputError("a pair pack is a .npz file", where=path, next_step=f"name it {path.stem}.npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            "clean_01mm" + _PLANES: _encode(self.clean_01mm),
            "noisy_mm" + _PLANES: _encode(self.noisy_mm),
            "K": self.K,
            "baseline_m": np.float64(self.baseline_m),
            "source": np.str_(self.source),
            "frames": self.frames,
            "windows": self.windows,
            "validation": self.validation,
            "licence": np.str_(self.licence),
        }
        if self.grey is not None:
            arrays["grey"] = self.grey
        partial = path.with_name(f".{path.stem}.partial.npz")
        try:
            np.savez_compressed(partial, **arrays)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path.stat().st_size

    @classmethod
    def load(cls, path: Path | str) -> PairPack:
        """Read a pack.

        Raises:
            RealdiffError: the file is missing, damaged or not a pair pack.
        """
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as content:
                arrays: dict[str, Any] = {
                    name.removesuffix(_PLANES): _decode(content[name]) if name.endswith(_PLANES) else content[name]
                    for name in content.files
                }
        except FileNotFoundError:
            raise RealdiffError(
                "the pair pack does not exist", where=path, next_step="make it with pack_pairs, or correct the path"
            ) from None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise RealdiffError(
                "the pair pack can't be read", where=path, got=str(error), next_step="pack the pair folders again"
            ) from error
        missing = {"clean_01mm", "noisy_mm", "K", "baseline_m"} - arrays.keys()
        if missing:
            raise RealdiffError(
                "the file is not a pair pack",
                where=path,
                expected="arrays clean_01mm, noisy_mm, K, baseline_m",
                got=f"missing: {', '.join(sorted(missing))}",
                next_step="make it with pack_pairs",
            )
        n = len(arrays["clean_01mm"])
        frames = arrays.get("frames", np.arange(n)).astype(np.int64)
        return cls(
            clean_01mm=arrays["clean_01mm"],
            noisy_mm=arrays["noisy_mm"],
            K=arrays["K"].astype(np.float64),
            baseline_m=float(arrays["baseline_m"]),
            source=str(arrays.get("source", np.str_(path.stem))),
            frames=frames,
            windows=arrays.get("windows", frames).astype(np.int64),
            validation=arrays.get("validation", np.zeros(n, bool)).astype(np.bool_),
            licence=str(arrays.get("licence", np.str_(""))),
            grey=arrays.get("grey"),
        )


def _metres(values: npt.NDArray[np.uint16], unit_m: float) -> npt.NDArray[np.float32]:
    return np.where(values > 0, values * np.float32(unit_m), np.float32(np.nan)).astype(np.float32)


def _encode(images: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Code images [N,H,W] as high and low bytes [2,N,H,W] of the differences along rows, small ones near 0."""
    steps = images.copy()
    steps[..., 1:] -= images[..., :-1]  # wraps around, and back in _decode
    signed = steps.view(np.int16)
    folded = ((signed << 1) ^ (signed >> 15)).view(np.uint16)
    return np.stack([folded >> 8, folded & 0xFF]).astype(np.uint8)


def _decode(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Undo :func:`_encode`."""
    folded = (planes[0].astype(np.uint16) << 8) | planes[1]
    steps = (folded >> 1) ^ (np.uint16(0) - (folded & np.uint16(1)))
    return np.cumsum(steps, axis=-1, dtype=np.uint16)
