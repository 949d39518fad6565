"""Training of the two-stage model: stage I, stage II on sampled coarse fields, distillation, calibration."""

from .config import PackConfig, TrainConfig
from .store import PairStore
from .trainer import CONFIG_NAME, TrainResult, train, train_run

__all__ = ["CONFIG_NAME", "PackConfig", "PairStore", "TrainConfig", "TrainResult", "train", "train_run"]
