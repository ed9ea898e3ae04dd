"""FSDP of the frozen base weights: each process holds its share of every layer, and gathers a layer to compute it.

The adapter is small. Every process holds the whole of it, outside of FSDP: its gradients are summed once a step as they
are without sharding, and its file and the checkpoints are the same. Base weights have no gradients to be scattered.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from itool_pipeline.training.recomputation import layers_of


def shard_layers(model: Any, device: torch.device) -> None:
    """Share out the layers of peft's `model` among the processes, one after the other, and put all else on `device`.

    `model` may lie elsewhere, so that `device` never holds more than the shares and one layer. Raises TrainingError
    when the model's class does not tell its layers.
    """
    mesh = _mesh(device)
    for layer in layers_of(model, "compute.sharding: fsdp"):
        # Freed after each forward pass, so that all processes gather alike, whatever one does in between.
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=_trained(layer))
    for parameter in _trained(model):
        parameter.data = parameter.data.to(device)


def shard_rest(module: nn.Module, device: torch.device) -> None:
    """Share out what else there is in `module`, whose call is a pass, when its layers are shared out."""
    fully_shard(module, mesh=_mesh(device), reshard_after_forward=True, ignored_params=_trained(module))


def _trained(module: nn.Module) -> set[nn.Parameter]:
    return {parameter for parameter in module.parameters() if parameter.requires_grad}


def _mesh(device: torch.device) -> DeviceMesh:
    return init_device_mesh(device.type, (torch.distributed.get_world_size(),))
