"""Floating-point operations of a segment, counted from what PyTorch runs: 2 for a multiply-add, attention included."""

from __future__ import annotations

import dataclasses

import torch
from torch.utils.flop_counter import FlopCounterMode

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.network import HRM


def segment_flops(config: HRMConfig, training: bool = False, target: bool = True) -> int:
    """Operations that one board costs in one segment. Nothing is computed: shapes are enough.

    Args:
        config: the network.
        training: with the backward pass, which goes through as many updates as `HRMConfig.gradient` says.
        target: in training, with the extra forward pass for the target of Q(continue), where it is trained at all.

    >>> round(segment_flops(HRMConfig(vocab_size=11, grid=(9, 9)), training=True) / 1e9, 1)
    36.7
    """
    config = dataclasses.replace(config, puzzle_count=1)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = HRM(config)
        tokens, ids = torch.zeros(1, config.cells, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
        with torch.set_grad_enabled(training):
            result = model.segment(model.initial_carry(1), tokens, ids)
        if training:
            (result.logits.float().sum() + result.q_halt.sum() + result.q_continue.sum()).backward()
    forward_again = training and target and config.halting == "q_learning"
    return counter.get_total_flops() + (segment_flops(config) if forward_again else 0)
