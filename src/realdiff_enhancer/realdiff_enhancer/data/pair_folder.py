"""Folders of clean/noisy pairs: writing them one by one, reading them, packing several into one file for training.

Layout: ``clean/NNNNNN.png`` (16 bit, 0.1 mm, 0 = unknown), ``noisy/NNNNNN.png`` (16 bit, 1 mm, 0 = hole), ``K.txt``
(3x3), ``pairs.csv`` (one line a pair: frame, window, figures), ``meta.yaml`` (source, licence, camera, baseline_m), and
where asked for ``colour/NNNNNN.png`` (the same pixels; a pack keeps their luminance at half resolution).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from realdiff_core.errors import ConfigError, ImageError, OutputError, RealdiffError

from realdiff_enhancer.data.pair_maker import PairCandidate
from realdiff_enhancer.data.pairs import CLEAN_UNIT_M, NOISY_UNIT_M, PairPack

_COLUMNS = ("frame", "window", "z", "bias_mm", "sigma_mm", "lowfreq_mm", "over3cm", "coverage")
_REJECTED = (*_COLUMNS, "reasons")


class PairMeta(BaseModel):
    """Where the pairs of a folder come from (meta.yaml)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    source: str = Field(description="name of the sequence")
    licence: str = Field(default="", description="licence of its images; empty if not stated")
    camera: str = Field(description="camera profile")
    baseline_m: float = Field(gt=0, description="stereo baseline")
    method: str = Field(default="", description="how the clean depth was made: motion, static or twins")
    use: str = Field(default="", description="what the pairs may be used for, for example: evaluation only")


class PairFolderWriter:
    """Writes a pair folder; use :class:`realdiff_core.output.StagedFolder` around it for all-or-nothing.

    Args:
        folder: new folder.
        K: [3,3], px.
        meta: origin of the pairs.
    """

    def __init__(self, folder: Path, K: npt.NDArray[np.floating], meta: PairMeta) -> None:
        """Make the folder and write what does not depend on the pairs."""
        import yaml

        self.folder = folder
        (folder / "clean").mkdir(parents=True)
        (folder / "noisy").mkdir()
        np.savetxt(folder / "K.txt", K)
        (folder / "meta.yaml").write_text(yaml.safe_dump(meta.model_dump(), sort_keys=False), encoding="utf-8")
        self._append("pairs.csv", _COLUMNS)
        self._append("rejected.csv", _REJECTED)

    def write(self, pair: PairCandidate, colour: npt.NDArray[np.uint8] | None = None) -> None:
        """Write an accepted pair, or note why a rejected one was left out.

        Args:
            pair: the pair.
            colour: uint8 [H,W,3] RGB on the pixels of the depth, where it is wanted, too.

        Raises:
            ImageError: colour of another size.
            OutputError: an image can't be written.
        """
        if colour is not None and colour.shape[:2] != pair.noisy_m.shape:
            raise ImageError(
                "colour and depth differ in size",
                where=f"frame {pair.number}",
                expected=pair.noisy_m.shape,
                got=colour.shape[:2],
                next_step="record depth aligned to colour, or leave --colour out",
            )
        s = pair.statistics
        figures = (s.z, s.bias_mm, s.sigma_mm, s.lowfreq_mm, s.over3cm, s.coverage)
        row = (pair.number, pair.window, *(f"{value:.4f}" for value in figures))
        if pair.failures:
            self._append("rejected.csv", (*row, "; ".join(pair.failures)))
            return
        name = f"{pair.number:06d}.png"
        write_png16(self.folder / "clean" / name, pair.clean_m, CLEAN_UNIT_M)
        write_png16(self.folder / "noisy" / name, pair.noisy_m, NOISY_UNIT_M)
        if colour is not None:
            write_colour(self.folder / "colour" / name, colour)
        self._append("pairs.csv", row)

    def _append(self, name: str, row: Sequence[object]) -> None:
        with (self.folder / name).open("a", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerow(row)


def write_png16(path: Path, depth_m: npt.NDArray[np.floating], unit_m: float) -> None:
    """Write depth as a 16-bit PNG in steps of ``unit_m``; NaN and what 16 bits can't hold become 0."""
    import cv2

    steps = np.rint(np.nan_to_num(depth_m.astype(np.float64)) / unit_m)
    steps[(steps < 0) | (steps > 65535)] = 0
    if not cv2.imwrite(str(path), steps.astype(np.uint16)):
        raise OutputError("the image can't be written", where=path, next_step="check free space and permissions")


def write_colour(path: Path, colour: npt.NDArray[np.uint8]) -> None:
    """Write an RGB image as a PNG; its folder is made if it is absent."""
    import cv2

    path.parent.mkdir(exist_ok=True)
    if not cv2.imwrite(str(path), np.ascontiguousarray(colour[..., ::-1])):
        raise OutputError("the image can't be written", where=path, next_step="check free space and permissions")


def _read_png16(path: Path) -> npt.NDArray[np.uint16]:
    import cv2

    image: Any = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16 or image.ndim != 2:
        raise RealdiffError(
            "the image of a pair can't be read",
            where=path,
            expected="a 16-bit grey PNG",
            got="no image" if image is None else f"{image.dtype}, {image.ndim} dimensions",
            next_step="make the pairs again",
        )
    return np.asarray(image, np.uint16)


def read_camera_matrix(path: Path) -> npt.NDArray[np.float64]:
    """Read K.txt: float64 [3,3], px.

    Raises:
        ConfigError: missing, or no camera matrix.
    """
    try:
        matrix = np.loadtxt(path, dtype=np.float64)
    except FileNotFoundError as error:
        raise ConfigError("camera matrix is missing", where=path, next_step="write K.txt: 3×3 numbers") from error
    except ValueError as error:
        raise ConfigError("camera matrix can't be read", where=path, expected="3×3 numbers", got=str(error)) from error
    if matrix.shape != (3, 3) or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise ConfigError(
            "camera matrix makes no sense", where=path, expected="3×3, fx and fy > 0", got=matrix.tolist()
        )
    return matrix


def read_windows(path: Path) -> dict[int, str]:
    """Read from pairs.csv which window each frame was fused in; nothing where there is no such file.

    Raises:
        ConfigError: a column is missing, or a frame is no number.
    """
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if rows and not {"frame", "window"} <= set(rows[0]):
        raise ConfigError("pairs.csv lacks a column", where=path, expected="frame, window", got=", ".join(rows[0]))
    try:
        return {int(row["frame"]): row["window"] for row in rows}
    except ValueError as error:
        raise ConfigError("pairs.csv has a frame that is no number", where=path, got=str(error)) from error


def is_pair_folder(path: Path) -> bool:
    """Whether a folder is meant to hold pairs: it has clean/ or noisy/, as no recording has."""
    return (path / "clean").is_dir() or (path / "noisy").is_dir()


def read_meta(folder: Path, default: PairMeta | None = None) -> PairMeta:
    """Read a pair folder's meta.yaml.

    Args:
        folder: the pair folder.
        default: taken where there is no such file.

    Raises:
        RealdiffError: the file is missing and no default is given, or it is not understood.
    """
    import yaml

    path = folder / "meta.yaml"
    if not path.exists():
        if default is not None:
            return default
        raise RealdiffError(
            "the pair folder does not say which camera it is of",
            where=path,
            expected="meta.yaml with source, camera and baseline_m",
            next_step="give --camera (a profile, for its baseline)",
        )
    try:
        return PairMeta.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise RealdiffError("meta.yaml is not understood", where=path, got=str(error)) from error


def load_folder(folder: Path, *, meta: PairMeta, validation_windows: int = 1) -> PairPack:
    """Read a pair folder.

    Args:
        folder: see the module.
        meta: its origin.
        validation_windows: the last windows that are kept out of training.

    Raises:
        RealdiffError: no pairs, a damaged image, images of several sizes, or colour of a part of the pairs only.
        ConfigError: K.txt or pairs.csv is not understood.
    """
    names = sorted(
        path.stem
        for path in (folder / "noisy").glob("*.png")
        if path.stem.isdigit() and (folder / "clean" / path.name).exists()
    )
    if not names or not (folder / "K.txt").exists():
        raise RealdiffError(
            "the folder holds no pairs",
            where=folder,
            expected="clean/NNNNNN.png, noisy/NNNNNN.png and K.txt",
            next_step="make pairs with make_pairs",
        )
    frames = np.array([int(name) for name in names], np.int64)
    windows = _window_numbers(folder, frames)
    noisy = _read_images(folder / "noisy" / f"{name}.png" for name in names)
    return PairPack(
        clean_01mm=_read_images(folder / "clean" / f"{name}.png" for name in names),
        noisy_mm=noisy,
        K=read_camera_matrix(folder / "K.txt"),
        baseline_m=meta.baseline_m,
        source=meta.source,
        frames=frames,
        windows=windows,
        validation=last_windows(windows, validation_windows),
        licence=meta.licence,
        grey=_read_luminance(folder, names, noisy.shape[1:]),
    )


def last_windows(windows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.bool_]:
    """Mark the pairs of the last `count` windows, but never of all: bool [N] of the windows' numbers int64 [N]."""
    distinct = np.unique(windows)
    return np.isin(windows, distinct[len(distinct) - min(count, len(distinct) - 1) :])


def _window_numbers(folder: Path, frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    known = read_windows(folder / "pairs.csv")
    try:
        return np.array([int(known.get(int(frame), 0)) for frame in frames], np.int64)
    except ValueError as error:
        raise ConfigError(
            "pairs.csv has a window that is no number",
            where=folder / "pairs.csv",
            expected="the first frame number of the window",
            got=str(error),
        ) from error


def _read_images(paths: Iterable[Path]) -> npt.NDArray[np.uint16]:
    images: list[npt.NDArray[np.uint16]] = []
    for path in paths:
        images.append(_read_png16(path))
        if images[-1].shape != images[0].shape:
            raise RealdiffError(
                "image has another size than the folder's first",
                where=path,
                expected=images[0].shape,
                got=images[-1].shape,
                next_step="keep each camera's pairs in a folder of their own",
            )
    return np.stack(images)


def _read_luminance(folder: Path, names: Sequence[str], size: tuple[int, ...]) -> npt.NDArray[np.uint8] | None:
    """Read the colour images as luminance (ITU-R BT.601) at half resolution: uint8 [N,H/2,W/2]; None without colour.

    Raises:
        RealdiffError: an image is missing or damaged, or has another size than the depth.
    """
    import cv2

    if not (folder / "colour").is_dir():
        return None
    half = (max(1, size[1] // 2), max(1, size[0] // 2))
    images = []
    for name in names:
        path = folder / "colour" / f"{name}.png"
        if not path.exists() and path.with_suffix(".jpg").exists():  # of simulated pairs
            path = path.with_suffix(".jpg")
        colour = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if colour is None or colour.shape[:2] != size:
            raise RealdiffError(
                "the colour of a pair can't be read",
                where=path,
                expected=f"an image of {size[1]}x{size[0]} px, as its depth",
                got="no image" if colour is None else f"{colour.shape[1]}x{colour.shape[0]} px",
                next_step="make the pairs again, or remove the folder colour/ to go without",
            )
        grey = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
        images.append(np.asarray(cv2.resize(grey, half, interpolation=cv2.INTER_AREA), np.uint8))
    return np.stack(images)


def join_packs(packs: Sequence[PairPack]) -> PairPack:
    """Join packs of one camera into one.

    Raises:
        RealdiffError: image size, intrinsics or baseline differ, or only some have colour.
    """
    first = packs[0]
    for pack in packs[1:]:
        same = pack.clean_01mm.shape[1:] == first.clean_01mm.shape[1:]
        if not (same and np.allclose(pack.K, first.K, atol=1e-3) and np.isclose(pack.baseline_m, first.baseline_m)):
            raise RealdiffError(
                "pairs of different cameras do not go into one pack",
                where=pack.source,
                expected=f"size, K and baseline of {first.source}",
                next_step="pack each camera's folders into a file of their own",
            )
        if (pack.grey is None) != (first.grey is None):
            raise RealdiffError(
                "only some of the pairs have colour",
                where=pack.source,
                expected=f"{'no colour' if first.grey is None else 'colour'}, as {first.source}",
                next_step="pack folders with colour and those without into files of their own",
            )
    greys = [p.grey for p in packs if p.grey is not None]
    return PairPack(
        clean_01mm=np.concatenate([p.clean_01mm for p in packs]),
        noisy_mm=np.concatenate([p.noisy_mm for p in packs]),
        K=first.K,
        baseline_m=first.baseline_m,
        source="+".join(p.source for p in packs),
        frames=np.concatenate([p.frames for p in packs]),
        windows=np.concatenate([p.windows for p in packs]),
        validation=np.concatenate([p.validation for p in packs]),
        licence="; ".join(dict.fromkeys(p.licence for p in packs if p.licence)),
        grey=np.concatenate(greys) if greys else None,
    )


def pack_pairs(
    folders: Sequence[Path],
    output: Path,
    *,
    default: PairMeta | None = None,
    validation_windows: int = 1,
    private: bool = False,
) -> tuple[PairPack, int]:
    """Pack pair folders of one camera into one file.

    Args:
        folders: pair folders.
        output: .npz file to write.
        default: origin of folders without meta.yaml; its source is replaced by the folder's name.
        validation_windows: the last windows of each folder that are kept out of training.
        private: frames of held-out scenes may be packed; the pack's licence then says that it is a private experiment.

    Returns:
        The pack and the bytes written.

    Raises:
        ConfigError: frames of held-out scenes, and not private.
    """
    from realdiff_enhancer.data.splits import PRIVATE, refuse_held_out

    packs = []
    for folder in folders:
        fallback = default.model_copy(update={"source": folder.name}) if default else None
        packs.append(load_folder(folder, meta=read_meta(folder, fallback), validation_windows=validation_windows))
    pack = join_packs(packs)
    if private:
        pack = replace(pack, licence=f"{PRIVATE} ({pack.licence or 'no licence stated'})")
    refuse_held_out(pack)
    return pack, pack.save(output)
