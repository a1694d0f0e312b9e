"""Official checkpoints of every configuration load, think as the official code does, and every misfit is named."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from golden_kit import Kit
from official_reference import CONFIGS, HRM, MIXER, TRM, Reference, random_state
from safetensors.torch import save_file

from hrm_gym.agents.hrm import load_official
from hrm_gym.agents.hrm.official.config import translate_config
from hrm_gym.agents.hrm.official.weights import our_name, read_state

SEGMENTS = 3


def puzzles(arch: dict[str, Any], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(seed)
    shape = (arch["batch_size"], arch["seq_len"])
    tokens = draw.integers(0, arch["vocab_size"], shape)
    ids = draw.integers(0, arch["num_puzzle_identifiers"], arch["batch_size"])
    return torch.from_numpy(tokens), torch.from_numpy(ids)


@pytest.mark.parametrize("name", CONFIGS)
def test_thinks_as_the_plain_reference_does(name: str) -> None:
    arch = CONFIGS[name]
    state, (tokens, ids) = random_state(arch), puzzles(arch)
    model, reference = load_official(state, {"arch": arch}), Reference(arch, state)
    assert not model.training
    carry, (z_h, z_l) = model.initial_carry(arch["batch_size"]), reference.start(arch["batch_size"])
    for number in range(1, SEGMENTS + 1):
        with torch.no_grad():
            carry, *outputs = model.segment(carry, tokens.int(), ids.int())
        z_h, z_l, *expected = reference.segment(z_h, z_l, tokens.numpy(), ids.numpy())
        for found, right in zip((*carry, *outputs), (z_h, z_l, *expected), strict=True):
            assert found.shape == right.shape
            np.testing.assert_allclose(found.numpy(), right, rtol=0, atol=5e-5, err_msg=f"segment {number}")


@pytest.mark.parametrize("name", ["hrm", "trm_att"])
def test_the_reference_is_official(name: str) -> None:
    kit = Kit(name)
    arch, boards = {"puzzle_emb_ndim": 0, **kit.settings["arch"]}, kit.boards("batch")
    reference = Reference(arch, kit.state)
    z_h, z_l, *_ = reference.start(8)
    for number in range(1, 5):
        result = reference.segment(z_h, z_l, boards.inputs.numpy(), boards.puzzle_ids.numpy())
        z_h, z_l = result.z_h, result.z_l
        assert kit.difference(f"eval/seg{number}/logits", torch.from_numpy(result.logits)).max() < kit.eval_tolerance
        assert kit.difference(f"eval/seg{number}/q_halt", torch.from_numpy(result.q_halt)).max() < kit.eval_tolerance


@pytest.mark.parametrize("name", CONFIGS)
def test_bfloat16_is_near_float32(name: str) -> None:
    arch = CONFIGS[name]
    tokens, ids = puzzles(arch)
    found = []
    for dtype in ("float32", "bfloat16"):
        model = load_official(random_state(arch), {**arch, "forward_dtype": dtype})
        with torch.no_grad():
            carry, logits, q_halt, _ = model.segment(model.initial_carry(3), tokens, ids)
        assert carry.z_h.dtype == logits.dtype == getattr(torch, dtype)
        assert q_halt.dtype == torch.float32
        found.append(logits.float())
    assert (found[0] - found[1]).abs().mean() < 0.1 * found[0].abs().mean()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("prefix", ["model.inner.", "_orig_mod.model.inner.", "inner.", ""])
def test_prefixes_and_files(name: str, prefix: str, tmp_path: Path) -> None:
    arch = {**CONFIGS[name], "forward_dtype": "bfloat16"}
    state = random_state(arch, prefix=prefix)
    torch.save(state, tmp_path / "step_7")
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "kit.json").write_text(json.dumps({"name": "kit", "arch": arch, "seed": 1}))
    (tmp_path / "all_config.yaml").write_text(yaml.dump({"arch": arch, "lr": 1e-4}))
    expected = load_official(state, arch).state_dict()
    assert expected["h_init"].dtype == torch.bfloat16
    assert {our_name(key) for key in state} <= set(expected)
    for checkpoint, config in (("step_7", "kit.json"), ("model.safetensors", "all_config.yaml")):
        found = load_official(str(tmp_path / checkpoint), tmp_path / config).state_dict()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_old_files_of_torch(tmp_path: Path) -> None:
    torch.save(random_state(HRM), tmp_path / "step_7", _use_new_zipfile_serialization=False)
    load_official(tmp_path / "step_7", HRM)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state, other: {"model_state_dict": state, "optimizer_state_dict": {"lr": 0.1}, "epoch": 3},
        lambda state, other: {"state_dict": state, "hyper_parameters": {"lr": 0.1}},
        lambda state, other: {"model": other, "ema": state, "step": 7},
        lambda state, other: {"model": other, "ema": {"mu": 0.999, "shadow": state}},
        lambda state, other: {"state_dict": {"n_averaged": torch.tensor(3), **state}, "epoch": 1},
    ],
)
def test_weights_inside_a_larger_checkpoint(wrap: Any, tmp_path: Path) -> None:
    state = random_state(HRM)
    torch.save(wrap(state, {name: tensor + 1 for name, tensor in state.items()}), tmp_path / "last.pt")
    expected = load_official(state, HRM).state_dict()
    found = load_official(tmp_path / "last.pt", HRM).state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    with pytest.raises(ValueError, match=r"expected named tensors, got 'epoch': int"):
        load_official({"epoch": 3, "weights": state}, HRM)


def test_buffers_that_follow_from_the_rest_are_passed_over() -> None:
    state = random_state(HRM)
    state |= {
        "model.inner.rotary_emb.cos_cached": torch.ones(10, 16),
        "model.inner.puzzle_emb.local_ids": torch.ones(3),
    }
    load_official(state, HRM)


# ---- all_config.yaml, which does not hold what the data set determined ----


def run_config(arch: dict[str, Any], data: Any, **changes: Any) -> dict[str, Any]:
    """An all_config.yaml as the official code writes it."""
    fixed_by_data = ("batch_size", "seq_len", "vocab_size", "num_puzzle_identifiers")
    section = {key: value for key, value in arch.items() if key not in fixed_by_data}
    loss = {"loss_type": "stablemax_cross_entropy", "name": "losses@ACTLossHead"}
    return {"arch": {**section, "loss": loss, "name": "hrm.hrm_act_v1@X", **changes}, "lr": 1e-4, **data}


@pytest.mark.parametrize(
    ("data", "vocabulary", "grid"),
    [
        ({"data_path": "data/sudoku-extreme-1k-aug-1000"}, 11, (9, 9)),
        ({"data_path": "data/maze-30x30-hard-1k"}, 6, (30, 30)),
        ({"data_paths": ["data/arc1concept-aug-1000"], "data_paths_test": []}, 12, (30, 30)),
    ],
)
def test_what_the_data_determined_is_read_off_weights_and_folder(
    data: dict[str, Any], vocabulary: int, grid: tuple[int, int]
) -> None:
    arch = {**HRM, "vocab_size": vocabulary, "num_puzzle_identifiers": 23}
    model = load_official(random_state(arch), run_config(arch, data))
    assert (model.config.vocab_size, model.config.puzzle_count, model.config.grid) == (vocabulary, 23, grid)


def test_data_of_another_name_needs_the_length() -> None:
    with pytest.raises(ValueError, match="lacks seq_len"):
        load_official(random_state(HRM), run_config(HRM, {"data_path": "data/mine"}))
    model = load_official(random_state(HRM), run_config(HRM, {"data_path": "data/mine"}, seq_len=9))
    assert model.config.grid == (3, 3)


def test_settings_that_yaml_reads_as_text_or_nothing() -> None:
    config = yaml.safe_load("{rms_norm_eps: 1e-5, pos_encodings: null}")
    assert load_official(random_state(MIXER), {**MIXER, **config}).config.norm_eps == 1e-5


def test_hrm_and_trm_are_told_apart_by_weights_and_else_by_settings() -> None:
    assert not load_official(random_state(HRM), {**HRM, "no_ACT_continue": True}).config.shared
    bare = {key: value for key, value in TRM.items() if key not in ("puzzle_emb_len", "no_ACT_continue", "H_layers")}
    assert load_official(random_state(TRM), bare).config == load_official(random_state(TRM), TRM).config
    assert translate_config(TRM).shared
    assert translate_config(TRM).halting == "bce"
    assert not translate_config(HRM).shared
    assert translate_config(HRM).halting == "q_learning"


# ---- misfits ----


@pytest.mark.parametrize("field", sorted(set(HRM) - {"batch_size", "forward_dtype", "puzzle_emb_ndim"}))
def test_missing_fields_are_named(field: str) -> None:
    with pytest.raises(ValueError, match=rf"lacks {field} in its arch section") as raised:
        load_official(random_state(HRM), {"arch": {key: value for key, value in HRM.items() if key != field}})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", "wide"), ("hidden_size", -32), ("L_layers", 1.5), ("H_cycles", 0), ("expansion", float("nan")),
        ("pos_encodings", "spiral"), ("forward_dtype", "float16"), ("mlp_t", "perhaps"), ("num_heads", 5),
        ("seq_len", 0), ("puzzle_emb_ndim", None), ("vocab_size", True), ("halt_max_steps", 0),
    ],
)  # fmt: skip
def test_settings_that_make_no_network(field: str, value: Any) -> None:
    ours = {"num_heads": "heads", "halt_max_steps": "max_segments", "seq_len": "grid", "H_cycles": "h_cycles"}
    with pytest.raises(ValueError, match=ours.get(field, field)):
        load_official(random_state(HRM), {**HRM, field: value})


@pytest.mark.parametrize("arch", [HRM, TRM, MIXER])
def test_missing_unknown_and_misshapen_weights_are_named(arch: dict[str, Any]) -> None:
    state = random_state(arch)
    name = "L_level.layers.0.mlp.down_proj.weight"
    lacking = {key: value for key, value in state.items() if not key.endswith(name)}
    with pytest.raises(ValueError, match=f"missing {name}"):
        load_official(lacking, arch)
    with pytest.raises(ValueError, match=r"unknown wings\.weight"):
        load_official({**state, "model.inner.wings.weight": torch.zeros(2)}, arch)
    with pytest.raises(ValueError, match=rf"{name}: expected shape \(32, 256\), got \(32, 255\)") as raised:
        load_official({**state, f"model.inner.{name}": torch.zeros(32, 255)}, arch)
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=r"lm_head\.weight: expected shape \(8, 32\), got \(7, 32\)"):
        load_official(state, {**arch, "vocab_size": 8})


def test_weights_of_another_model_are_named() -> None:
    with pytest.raises(ValueError, match=r"missing .*self_attn.*unknown .*mlp_t"):
        load_official(random_state(MIXER), {**MIXER, "mlp_t": False})
    with pytest.raises(ValueError, match=r"unknown L_level\.layers\.1"):
        load_official(random_state(TRM), {**TRM, "L_layers": 1})
    with pytest.raises(ValueError, match=r"missing embed_pos"):
        load_official(random_state(HRM), {**HRM, "pos_encodings": "learned"})


def test_two_weights_of_one_name() -> None:
    with pytest.raises(ValueError, match="two weights are called H_init"):
        read_state(random_state(HRM) | random_state(HRM, prefix="_orig_mod.model.inner."))


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    whole = tmp_path / "step_1"
    torch.save(random_state(HRM), whole)
    (tmp_path / "half").write_bytes(whole.read_bytes()[:5000])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("weights")
    torch.save({"model": Path("x")}, tmp_path / "object")
    torch.save([1, 2], tmp_path / "list")
    torch.save({"a": 1}, tmp_path / "numbers")
    for name in ("half", "empty", "text", "object", "list", "numbers"):
        with pytest.raises(ValueError, match=name) as raised:
            load_official(tmp_path / name, HRM)
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 500
    with pytest.raises(FileNotFoundError, match="step_9"):
        load_official(tmp_path / "step_9", HRM)


def test_files_that_are_no_config(tmp_path: Path) -> None:
    for name, text in (("a.json", "{"), ("b.yaml", "a: [1"), ("c.yaml", "- 1"), ("d.json", '{"arch": 3}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=name) as raised:
            load_official(random_state(HRM), tmp_path / name)
        assert "\n" not in str(raised.value)
    with pytest.raises(FileNotFoundError, match=r"all_config\.yaml"):
        load_official(random_state(HRM), tmp_path / "all_config.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: torch.zeros(1, 1).expand(10**9, t.shape[1]), "about the .* bytes of the file, got 128,"),
        (lambda t: t.to_sparse(), "as plain numbers, got a sparse_coo tensor"),
        (lambda t: t.to("meta"), "as plain numbers, got a meta tensor"),
        (lambda t: t.to(torch.complex64), "as plain numbers, got a strided tensor of torch.complex64"),
    ],
)
def test_tensors_that_are_no_weights(change: Any, message: str, tmp_path: Path) -> None:
    """The first is a file of 240 kB that would take 128 GB."""
    state = random_state(HRM)
    name = next(name for name in state if "puzzle_emb.weights" in name)
    state[name] = change(state[name])
    torch.save(state, tmp_path / "step_1")
    with pytest.raises(ValueError, match=message):
        load_official(tmp_path / "step_1", {**HRM, "num_puzzle_identifiers": len(state[name])})


@pytest.mark.parametrize("content", [b".", b"J", b"\x85", b"Nq", b"", b"\x80\x02", b"PK\x03\x04"])
def test_damaged_pickles(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "step_1").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged, or no checkpoint of tensors alone"):
        read_state(tmp_path / "step_1")


@pytest.mark.parametrize("name", ["step_7", "model.safetensors"])
def test_a_checkpoint_that_is_cut_short_after_it_was_read(name: str, tmp_path: Path) -> None:
    """Tensors that were mapped ended the process with a bus error."""
    path, state = tmp_path / name, {"a": torch.ones(1_000_000)}
    torch.save(state, path) if name == "step_7" else save_file(state, path)
    found = read_state(path)
    os.truncate(path, 100)
    assert found["a"].sum() == 1_000_000


def test_a_checkpoint_with_compressed_members_is_refused(tmp_path: Path) -> None:
    """PyTorch unpacks them whatever they unpack to."""
    stored, packed = tmp_path / "step_7", tmp_path / "step_8"
    torch.save({"a": torch.zeros(1_000_000)}, stored)
    with zipfile.ZipFile(stored) as good, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in good.namelist():
            archive.writestr(member, good.read(member))
    with pytest.raises(ValueError, match="expected members that are stored"):
        read_state(packed)
