"""The array store: a folder of episode bags as memory-mapped arrays, made once.

    STORE/store.json                    image size, rate, format
    STORE/episodes/<bag>/episode.json   fingerprint of the bag, camera, depth kind, task, success
    STORE/episodes/<bag>/{colour,depth,state,action,hand,stamps}.npy

Each episode is written beside its final name and moved when complete, so an interrupted build goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError
from realdiff_core.camera import CameraModel
from realdiff_core.config import Strict
from realdiff_core.episode import list_episodes
from realdiff_core.errors import BagError, ConfigError
from realdiff_core.provenance import DepthKind

from realdiff_policy.data.episode_arrays import EpisodeArrays, read_episode
from realdiff_policy.images import image_contract, intrinsics_problem

_ARRAYS = ("colour", "depth", "state", "action", "hand", "stamps_ns")
_RECORD, _SETTINGS = "episode.json", "store.json"
_CHUNK = 1 << 20
_WORTH_A_PROCESS = 8
"""Bags to read for which it pays to start another process."""


class StoreSettings(Strict):
    """How bags are turned into arrays."""

    format_version: Literal[1] = 1
    width: PositiveInt = 320
    height: PositiveInt = 240
    rate_hz: PositiveFloat = 10.0


class StoredEpisode(Strict):
    """What is known of an episode besides its arrays."""

    bag: str
    sha256: str
    files: dict[str, tuple[int, int]] = Field(description="size [bytes] and time of change [ns] of the bag's files")
    frames: PositiveInt
    camera: dict[str, float]
    depth_kind: DepthKind
    task: str
    success: bool | None


@dataclass(frozen=True)
class Episode:
    """An episode in a store; its arrays are opened, memory-mapped, on first use."""

    folder: Path
    record: StoredEpisode

    def __getattr__(self, name: str) -> NDArray[Any]:
        """Opens one of the arrays (see `EpisodeArrays`)."""
        if name not in _ARRAYS:
            raise AttributeError(name)
        array: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        object.__setattr__(self, name, array)
        return array

    @cached_property
    def camera(self) -> CameraModel:
        """The colour camera at the store's image size."""
        values = self.record.camera
        return CameraModel(
            width=int(values["width"]), height=int(values["height"]),
            fx=values["fx"], fy=values["fy"], cx=values["cx"], cy=values["cy"],
        )  # fmt: skip


class EpisodeStore:
    """A complete store.

    Attributes:
        settings: How the bags were turned into arrays.
        episodes: The episodes in the order of their bags.
    """

    def __init__(self, settings: StoreSettings, episodes: Sequence[Episode]) -> None:
        """Checks that the episodes belong together; `build_store` makes one.

        Raises:
            ConfigError: The episodes are of different cameras or tasks.
        """
        self.settings = settings
        self.episodes = tuple(episodes)
        reference = image_contract("colour", self.episodes[0].camera)
        for episode in self.episodes[1:]:
            problem = intrinsics_problem(reference, episode.camera)
            if problem:
                raise ConfigError(
                    "episodes of different cameras are mixed",
                    where=episode.record.bag,
                    expected=f"the intrinsics of {self.episodes[0].record.bag}",
                    got=problem,
                    next_step="train on the episodes of one camera, or bring them to the same intrinsics first",
                )
            if episode.record.task != self.episodes[0].record.task:
                raise ConfigError(
                    "episodes of different tasks are mixed",
                    where=episode.record.bag,
                    expected=self.episodes[0].record.task,
                    got=episode.record.task,
                    next_step="keep the tasks' bags in folders of their own",
                )

    @property
    def frames(self) -> int:
        """Number of frames."""
        return sum(episode.record.frames for episode in self.episodes)


def build_store(
    bags: Path,
    folder: Path | None = None,
    settings: StoreSettings | None = None,
    *,
    only_successes: bool = True,
    workers: int | None = None,
    on_episode: Callable[[int, int], None] | None = None,
) -> EpisodeStore:
    """Opens the store of a folder of bags; what is missing in it is read from the bags first.

    Args:
        bags: Folder of episode bags, or one bag.
        folder: The store's folder; `.store` in the folder of bags where None.
        settings: How bags are turned into arrays.
        only_successes: Leave out episodes that are marked as failed.
        workers: Processes that read bags; None: one a core where there is much to read.
        on_episode: Called with (episodes done, episodes in all).

    Raises:
        BagError: A bag is damaged, lacks a topic, or there is none.
        ConfigError: The store was made with other settings, a bag has changed since, or the episodes don't belong
            together.
    """
    settings = settings or StoreSettings()
    bags = Path(bags)
    folder = folder or default_folder(bags)
    paths = list_episodes(bags)
    _check_settings(folder, settings)
    episodes = []
    for number, episode in enumerate(_read_all(paths, folder / "episodes", settings, workers)):
        episodes.append(episode)
        if on_episode is not None:
            on_episode(number + 1, len(paths))
    kept = [episode for episode in episodes if episode.record.success is not False or not only_successes]
    if not kept:
        raise BagError(
            "all episodes are marked as failed",
            where=bags,
            expected="at least one successful episode",
            got=f"{len(episodes)} failed ones",
            next_step="record demonstrations that succeed",
        )
    return EpisodeStore(settings, kept)


def default_folder(bags: Path) -> Path:
    """Where the store of a folder of bags, or of one bag, is kept unless another place is named."""
    return (bags.parent if (bags / "metadata.yaml").is_file() else bags) / ".store"


def open_store(folder: Path, bags_sha256: Collection[str]) -> EpisodeStore | None:
    """Opens what a store holds of some bags, without looking at the bags.

    Args:
        folder: The store's folder.
        bags_sha256: The bags.

    Returns:
        The store with those of its episodes; None where it holds none.

    Raises:
        ConfigError: The store is damaged.
    """
    try:
        settings = StoreSettings.model_validate_json((folder / _SETTINGS).read_text())
        files = sorted(file for file in (folder / "episodes").glob(f"*/{_RECORD}") if file.parent.name[0] != ".")
        records = [(file.parent, StoredEpisode.model_validate_json(file.read_text())) for file in files]
    except (OSError, ValidationError) as error:
        raise ConfigError(
            "the array store is damaged", where=folder, got=type(error).__name__, next_step="delete it"
        ) from None
    episodes = [Episode(place, record) for place, record in records if record.sha256 in bags_sha256]
    return EpisodeStore(settings, episodes) if episodes else None


def _read_all(paths: Sequence[Path], folder: Path, settings: StoreSettings, workers: int | None) -> Iterator[Episode]:
    """The stored episodes in the order of their bags."""
    jobs = [(folder / path.name, path, settings) for path in paths]
    missing = sum(not (place / _RECORD).is_file() for place, _, _ in jobs)
    if workers is None:
        workers = min(os.cpu_count() or 1, missing // _WORTH_A_PROCESS)
    if workers < 2:
        for job in jobs:
            yield _stored(*job)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_stored, *zip(*jobs, strict=True))


def _check_settings(folder: Path, settings: StoreSettings) -> None:
    file = folder / _SETTINGS
    text = settings.model_dump_json(indent=1) + "\n"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(".store.json.partial")
        partial.write_text(text)
        partial.rename(file)
    elif file.read_text() != text:
        raise ConfigError(
            "the array store was made with other settings",
            where=file,
            expected=" ".join(text.split()),
            got=" ".join(file.read_text().split()),
            next_step="name another folder with --store, or delete this one: it can be made again from the bags",
        )


def _stored(folder: Path, bag: Path, settings: StoreSettings) -> Episode:
    """The stored episode of a bag; read from the bag where it isn't there."""
    if (folder / _RECORD).is_file():
        return _check(folder, bag)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        fingerprint = _sha256(bag)
        arrays = read_episode(bag, width=settings.width, height=settings.height, rate_hz=settings.rate_hz)
        record = _record(bag, fingerprint, arrays)
        for name in _ARRAYS:
            np.save(partial / f"{name}.npy", getattr(arrays, name), allow_pickle=False)
        (partial / _RECORD).write_text(record.model_dump_json(indent=1) + "\n")
        if folder.exists():
            shutil.rmtree(folder)  # remains without episode.json
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Episode(folder, record)


def _record(bag: Path, sha256: str, arrays: EpisodeArrays) -> StoredEpisode:
    return StoredEpisode(
        bag=bag.name,
        sha256=sha256,
        files=_files(bag),
        frames=len(arrays.stamps_ns),
        camera={name: getattr(arrays.camera, name) for name in ("width", "height", "fx", "fy", "cx", "cy")},
        depth_kind=arrays.depth_kind,
        task=arrays.task,
        success=arrays.success,
    )


def _check(folder: Path, bag: Path) -> Episode:
    """Opens a stored episode after comparing its bag with the one it was made from."""
    file = folder / _RECORD
    try:
        record = StoredEpisode.model_validate_json(file.read_text())
    except ValidationError as error:
        raise ConfigError(
            "the array store is damaged",
            where=file,
            got=f"{error.error_count()} wrong entries",
            next_step=f"delete {folder}; it is made again from the bag",
        ) from None
    # Reading a bag's bytes takes longer than training on it: they are read again only where size or time have changed.
    if record.files != _files(bag) and record.sha256 != _sha256(bag):
        raise ConfigError(
            "a bag has changed since the array store was made",
            where=bag,
            expected=f"sha256 {record.sha256[:16]}…",
            got=f"sha256 {_sha256(bag)[:16]}…",
            next_step=f"if the new content is right, delete {folder}; it is made again from the bag",
        )
    return Episode(folder, record)


def _bag_files(bag: Path) -> Iterator[Path]:
    return iter(sorted(path for path in bag.iterdir() if path.is_file()))


def _files(bag: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in _bag_files(bag)}


def _sha256(bag: Path) -> str:
    digest = hashlib.sha256()
    for path in _bag_files(bag):
        digest.update(json.dumps([path.name, path.stat().st_size]).encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


__all__ = ["Episode", "EpisodeStore", "StoreSettings", "StoredEpisode", "build_store", "default_folder", "open_store"]
