"""Held-out scenes: recognised frame by frame, refused by the tools that train."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from realdiff_core.errors import ConfigError
from realdiff_enhancer.data.pair_folder import PairFolderWriter, PairMeta, pack_pairs, write_png16
from realdiff_enhancer.data.pairs import PairPack
from realdiff_enhancer.data.splits import PRIVATE, HeldOutScene, Splits, frame_digest, load_splits, refuse_held_out

DATA = Path(os.environ.get("REALDIFF_SHARED_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
needs_frames = pytest.mark.skipif(not DATA.is_dir(), reason="no real frames: set REALDIFF_SHARED_DATA")


def _pack(seed: int = 0, licence: str = "MIT") -> PairPack:
    noisy = np.random.default_rng(seed).integers(500, 900, (4, 6, 8)).astype(np.uint16)
    index = np.arange(4, dtype=np.int64)
    return PairPack(noisy * 10, noisy, np.eye(3), 0.05, "lab", index, index, np.zeros(4, bool), licence)


def test_split_names_no_scene_twice_and_no_frame_twice() -> None:
    splits = load_splits()
    names = [scene.name for scene in (*splits.train, *splits.held_out)]
    assert len(set(names)) == len(names)
    frames = [digest for scene in splits.held_out for digest in scene.frames]
    assert len(set(frames)) == len(frames) and all(len(digest) == 8 for digest in frames)
    assert {scene.licence for scene in splits.train} == {"MIT"}


def test_one_held_out_frame_is_enough_for_a_refusal() -> None:
    pack = _pack()
    splits = Splits(held_out=(HeldOutScene(name="office", frames=frozenset([frame_digest(pack.noisy_mm[2])])),))
    with pytest.raises(ConfigError, match="1 frames of office"):
        refuse_held_out(pack, splits)
    refuse_held_out(_pack(1), splits)
    refuse_held_out(replace(pack, licence=PRIVATE + " (MIT)"), splits)
    assert frame_digest(np.full((2, 2), 65535, np.uint16)) == frame_digest(np.zeros((2, 2), np.uint16))


@needs_frames
@pytest.mark.parametrize("scene", ["tron_d435", "ovni_d415"])
def test_real_held_out_frames_are_refused_under_any_name(tmp_path: Path, scene: str) -> None:
    source = sorted((DATA / "pairs" / scene / "noisy").glob("*.png"))[:2]
    folder = tmp_path / "something_else"
    PairFolderWriter(folder, np.eye(3), PairMeta(source="x", camera="d435", baseline_m=0.05))
    for number, path in enumerate(source):
        noisy = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(folder / "noisy" / f"{number:06d}.png"), noisy)
        write_png16(folder / "clean" / f"{number:06d}.png", noisy * 1e-3, 1e-4)
    with pytest.raises(ConfigError, match=f"2 frames of {scene}"):
        pack_pairs([folder], tmp_path / "pack.npz")
    assert not (tmp_path / "pack.npz").exists()
    pack, _ = pack_pairs([folder], tmp_path / "pack.npz", private=True)
    assert PairPack.load(tmp_path / "pack.npz").licence.startswith(PRIVATE) and len(pack) == 2


@needs_frames
def test_training_scene_is_not_held_out() -> None:
    splits = load_splits()
    images = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (DATA / "aims_d435" / "depth").glob("1*.png")]
    assert len(images) > 10
    assert splits.scenes_of(frame_digest(image) for image in images) == {}


def test_trainer_refuses_held_out_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from realdiff_enhancer.two_stage.training import PackConfig, PairStore, TrainConfig

    pack = _pack()
    held_out = Splits(held_out=(HeldOutScene(name="office", frames=frozenset([frame_digest(pack.noisy_mm[0])])),))
    monkeypatch.setattr("realdiff_enhancer.data.splits.load_splits", lambda: held_out)
    pack.save(tmp_path / "pack.npz")
    config = TrainConfig(packs=(PackConfig(path=tmp_path / "pack.npz"),))
    with pytest.raises(ConfigError, match="held-out"):
        PairStore.load(config, torch.device("cpu"))
