"""From a training run to a bundle: weights in float16, ONNX graphs that share them; see `parity` for the proof."""

from __future__ import annotations

import json
import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from realdiff_core.output import StagedFolder

from realdiff_policy.bundle import DENOISER, ENCODER
from realdiff_policy.contract import STATE_SIZE
from realdiff_policy.parity import PARITY_LIMIT, ROUNDING_LIMIT, Parity, observations_for, parity
from realdiff_policy.policies.diffusion_policy.checkpoint import (
    RECORD,
    WEIGHTS,
    check_files,
    load_network,
    read_record,
    read_weights,
    sha256,
    write_policy,
)
from realdiff_policy.policies.diffusion_policy.modeling_diffusion_policy import DiffusionPolicyModel

_OPSET = 18


def export_policy(
    run: Path, output: Path, *, parity_limit: float = PARITY_LIMIT, rounding_limit: float = ROUNDING_LIMIT
) -> Parity:
    """Exports the trained policy of a run.

    Args:
        run: A training run, or its `policy` folder.
        output: The bundle to make.
        parity_limit: Largest allowed difference; see `PARITY_LIMIT`.
        rounding_limit: Largest allowed effect of the rounding; see `ROUNDING_LIMIT`.

    Returns:
        What the parity check has found; it is kept in the bundle, too.

    Raises:
        ConfigError: There is no trained policy, or the exported one differs from it by more than a limit.
        OutputError: The output exists.
    """
    source = run / "policy" if (run / "policy").is_dir() else run
    record = read_record(source)
    check_files(source, record)
    weights = read_weights(source)
    staged = StagedFolder(output)
    try:
        folder = staged.begin()
        halves = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
        write_policy(folder, record, halves)
        network = load_network(record, halves, source)
        offsets = _tensor_offsets(folder / WEIGHTS)
        _write_onnx(network, folder, offsets)
        checked = parity(source, folder, observations_for(record, run), parity_limit, rounding_limit)
        checked.require(source)
        exported = record.model_copy(
            update={
                "training": record.training | {"parity": checked.model_dump()},
                "sha256": {name: sha256(folder / name) for name in (WEIGHTS, ENCODER, DENOISER)},
            }
        )
        (folder / RECORD).write_text(exported.model_dump_json(indent=1) + "\n")
        staged.complete()
    finally:
        staged.abort()
    return checked


class _EncoderGraph(torch.nn.Module):
    """The encoder with the argument names of the ONNX graph."""

    def __init__(self, network: DiffusionPolicyModel) -> None:
        super().__init__()
        self.encoder = network.encoder

    def forward(self, colour: torch.Tensor, state: torch.Tensor, depth: torch.Tensor | None = None) -> torch.Tensor:
        result: torch.Tensor = self.encoder(colour, state, depth)
        return result


class _DenoiserGraph(torch.nn.Module):
    """The denoiser with the argument names of the ONNX graph."""

    def __init__(self, network: DiffusionPolicyModel) -> None:
        super().__init__()
        self.denoiser = network.denoiser

    def forward(self, rows: torch.Tensor, step: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.denoiser(rows, step, condition)
        return result


def _write_onnx(network: DiffusionPolicyModel, folder: Path, offsets: dict[str, tuple[int, int]]) -> None:
    config = network.config
    steps, (height, width) = config.action.observation_steps, config.crop
    images = {"colour": torch.zeros(1, steps, 3, height, width), "state": torch.zeros(1, steps, STATE_SIZE)}
    if config.depth is not None:
        images["depth"] = torch.zeros(1, steps, 2, height, width)
    rows = {
        "rows": torch.zeros(1, config.action.horizon, config.action.size),
        "step": torch.zeros(1, dtype=torch.int64),
        "condition": torch.zeros(1, network.encoder.size),
    }
    for name, graph, inputs, result in (
        (ENCODER, _EncoderGraph(network), images, "condition"),
        (DENOISER, _DenoiserGraph(network), rows, "noise"),
    ):
        with warnings.catch_warnings(), _quiet_exporter():
            warnings.simplefilter("ignore")  # deprecations inside the exporter
            program = torch.onnx.export(
                graph.eval(),
                (),
                kwargs=inputs,
                input_names=list(inputs),
                output_names=[result],
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
                optimize=True,
            )
        assert program is not None
        _save_sharing_weights(program.model_proto, folder / name, offsets)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keeps the exporter's remarks about packages that these graphs don't need off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _save_sharing_weights(model: Any, file: Path, offsets: dict[str, tuple[int, int]]) -> None:
    """Saves a graph whose weights lie, in float16, in the bundle's safetensors file."""
    import onnx

    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.name not in offsets:
            continue  # a constant of the graph itself
        begin, size = offsets[tensor.name]
        half = f"{tensor.name}/float16"
        casts.append(
            onnx.helper.make_node("Cast", [half], [tensor.name], name=f"{half}/cast", to=onnx.TensorProto.FLOAT)
        )
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.name = half
        tensor.data_type = onnx.TensorProto.FLOAT16
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in (("location", WEIGHTS), ("offset", str(begin)), ("length", str(size))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    # Shapes of the float32 weights that the exporter noted belong to the casts now; the checker works them out itself.
    del graph.value_info[:]
    for node in graph.node:
        del node.metadata_props[:]  # the exporter's machine: paths and source lines, nine tenths of the file
    file.write_bytes(model.SerializeToString())


def _tensor_offsets(file: Path) -> dict[str, tuple[int, int]]:
    """Where each tensor lies in a safetensors file: (first byte, number of bytes), by the names of the ONNX graphs.

    The format: 8 bytes with the header's length N, N bytes of JSON with `data_offsets` from the end of the header.
    """
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return {
        name: (8 + length + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F16"
    }
