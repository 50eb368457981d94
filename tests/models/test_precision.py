"""What is kept in which type, and that bf16 computes nearly what fp32 does."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bertft.config.method import MethodConfig
from bertft.config.method_components import base, low_rank, prefix
from bertft.errors import SystemResourceError, UsageError
from bertft.methods import attach_components, build_components, collect_param_groups
from bertft.models import precision as module
from bertft.models.precision import Precision, choose_precision, recorded_precision, resolve_device
from bertft.models.runner import EncoderRunner

CPU = torch.device("cpu")
METHODS = {
    "head": {},
    "lora": {"rank": 4, "low_rank": low_rank.LowRankConfig(kind="lora", dropout=0.0)},
    "svd_lora": {"rank": 4, "low_rank": low_rank.LowRankConfig(
        kind="svd_lora", start="orthonormal", dropout=0.0)},
    "prefix": {"prefix": prefix.PrefixConfig(length=3)},
    "prefix_mlp": {"prefix": prefix.PrefixConfig(length=3, mlp=True, mlp_hidden=8)},
    "prompt": {"prefix": prefix.PrefixConfig(kind="prompt", length=3)},
    "full": {"base": base.TrainableBaseConfig(train="everything")},
    "last_k": {"base": base.TrainableBaseConfig(train="last_k", last_k=1)},
    "bitfit": {"base": base.TrainableBaseConfig(train="biases")},
}  # fmt: skip
OF_THE_BASE = ("full", "last_k", "bitfit")
LENGTHS = [3, 9, 9, 17, 30]


def adapted(model, name):
    head = [key for key, _ in model.named_parameters() if not key.startswith("bert.encoder")]
    new = [key for key in head if "embeddings" not in key]  # the pooler among them
    components = build_components(MethodConfig(name=name, **METHODS[name]))
    attach_components(components, model, new)
    with torch.no_grad():  # away from B = 0
        for key, parameter in model.named_parameters():
            if ".adapter." in key:
                parameter += 0.1 * torch.randn_like(parameter)
    return components


@pytest.fixture
def prepared(encoder):
    """``prepared(name, "bf16")`` → (model, precision, components)."""

    def build(name, precision="bf16", dtype=torch.float32):
        model = encoder("bert", initializer_range=0.1).to(dtype)
        torch.manual_seed(4)
        components = adapted(model, name)
        chosen = Precision(precision, CPU)
        chosen.place_model(model, any(component.trains_base for component in components))
        return model, chosen, components

    return build


@pytest.mark.parametrize("name", METHODS)
def test_bf16_gives_nearly_the_logits_of_fp32_and_gradients_in_fp32(prepared, batch, name):
    rows = batch(LENGTHS)
    results = []
    for precision in ("fp32", "bf16"):
        model, chosen, components = prepared(name, precision)
        runner = EncoderRunner(model, "sequence")
        with chosen.autocast():
            logits = runner(rows)
        loss = torch.nn.functional.cross_entropy(logits.float(), rows.labels["labels"])
        loss.backward()
        trained = [
            pair for group in collect_param_groups(components, model) for pair in group.parameters
        ]
        assert {parameter.dtype for _, parameter in trained} == {torch.float32}
        assert {parameter.grad.dtype for _, parameter in trained} == {torch.float32}
        results.append(
            (logits.detach().float(), {key: parameter.grad for key, parameter in trained})
        )
    (exact, gradients), (rounded, approximate) = results
    error = (rounded - exact).abs().max() / exact.abs().max()
    assert 0 < error < 0.03
    for key, gradient in gradients.items():
        if gradient.norm() > 1e-3:
            similarity = torch.cosine_similarity(
                gradient.flatten(), approximate[key].flatten(), dim=0
            )  # fmt: skip
            assert similarity > 0.97, key


@pytest.mark.parametrize("name", [name for name in METHODS if name not in OF_THE_BASE])
def test_a_frozen_base_is_cast_once(prepared, name):
    model, chosen, _ = prepared(name)
    for key, parameter in model.named_parameters():
        frozen = key.startswith("bert.") and "pooler" not in key and ".adapter." not in key
        assert parameter.requires_grad is not frozen
        assert parameter.dtype == (torch.bfloat16 if frozen else torch.float32), key
    with chosen.autocast():
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("name", OF_THE_BASE)
def test_a_base_that_trains_keeps_fp32_masters_under_autocast(prepared, name):
    model, chosen, _ = prepared(name)
    linear = {
        f"{key}.weight" for key, module in model.named_modules() if isinstance(module, nn.Linear)
    }  # fmt: skip
    cast = {key for key, parameter in model.named_parameters() if parameter.dtype == torch.bfloat16}
    assert cast == {key for key in linear if not model.get_parameter(key).requires_grad}
    assert bool(cast) is (name != "full")
    with chosen.autocast():
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16


def test_what_trains_as_a_whole_computes_in_fp32(prepared, batch):
    model, _, _ = prepared("lora")
    seen = {}
    for key in ("bert.pooler", "classifier", "bert.encoder.layer.1.attention.self.query"):
        model.get_submodule(key).register_forward_hook(
            lambda _, inputs, output, key=key: seen.update({key: (inputs[0].dtype, output.dtype)})
        )
    assert EncoderRunner(model, "sequence")(batch([4, 6])).dtype == torch.float32
    half = (torch.bfloat16, torch.bfloat16)
    assert seen.pop("bert.encoder.layer.1.attention.self.query") == half
    assert seen["classifier"] == (torch.float32, torch.float32)
    assert seen["bert.pooler"][1] == torch.float32


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.float64)])
def test_fp32_and_fp64_stay_what_they_are(prepared, batch, precision, dtype):
    model, chosen, _ = prepared("lora", precision, dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    twin = copy.deepcopy(model)
    with chosen.autocast():
        assert EncoderRunner(twin, "sequence")(batch([4, 6])).dtype == dtype


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "electra", "albert", "modernbert"])
def test_other_heads_in_bf16(encoder, batch, kind):
    results = []
    for precision in ("fp32", "bf16"):
        model = encoder(kind).float()
        inside = f"{model.base_model_prefix}."
        new = [key for key, _ in model.named_parameters() if not key.startswith(inside)]
        method = MethodConfig(name="lora", **METHODS["lora"])
        components = build_components(method)
        torch.manual_seed(4)
        attach_components(components, model, new)
        chosen = Precision(precision, CPU)
        chosen.place_model(model, False)
        logits = EncoderRunner(model, "sequence")(batch(LENGTHS, types=False))
        logits.sum().backward()
        results.append(logits.detach())
    assert (results[1] - results[0]).abs().max() < 0.05 * results[0].abs().max()


def test_devices():
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("setting", "kind", "message"),
    [
        ("gpu", UsageError, "device: unknown device 'gpu'. Use auto, cpu, cuda or cuda:1"),
        ("meta", UsageError, "device: 'meta' is not supported. Use cpu or cuda"),
        ("cuda:99", SystemResourceError, "device: cuda:99 is not available: torch "),
    ],
)
def test_devices_that_are_none(setting, kind, message):
    with pytest.raises(kind) as caught:
        resolve_device(setting)
    assert str(caught.value).startswith(message)


def test_cuda_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemResourceError, match="finds no CUDA device") as caught:
        resolve_device("cuda")
    assert caught.value.status == 4
    with pytest.raises(SystemResourceError, match=r"Use trainer\.device=auto") as caught:
        resolve_device("cuda", "trainer.device")
    assert caught.value.where == "trainer.device"


@pytest.mark.parametrize(("count", "devices"), [(1, "only cuda:0"), (4, "cuda:0 to cuda:3")])
def test_a_device_number_that_does_not_exist(monkeypatch, count, devices):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert resolve_device(f"cuda:{count - 1}").index == count - 1
    with pytest.raises(SystemResourceError, match=f"no cuda:{count}: torch finds {devices}.*auto"):
        resolve_device(f"cuda:{count}")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx512_bf16", "sse"}, "bf16"), ({"amx_bf16"}, "bf16"), ({"avx512f"}, "fp32")],
)
def test_auto_takes_what_the_hardware_multiplies(monkeypatch, flags, expected):
    monkeypatch.setattr(module, "cpu_flags", lambda: flags)
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    assert choose_precision("auto", CPU).name == expected
    monkeypatch.setattr(module.platform, "machine", lambda: "arm64")
    assert choose_precision("auto", CPU).name == "fp32"
    assert choose_precision("bf16", CPU).dtype == torch.bfloat16, "a wish is a wish"


def test_fp16_needs_cuda():
    with pytest.raises(UsageError, match=r"trainer\.precision: fp16 needs CUDA"):
        choose_precision("fp16", CPU)
    assert choose_precision("fp16", torch.device("cuda")).uses_loss_scaling
    assert not choose_precision("fp32", CPU).uses_loss_scaling


@pytest.mark.parametrize(("device", "current"), [("cuda", []), ("cuda:0", [0]), ("cuda:1", [1])])
def test_a_gpu_becomes_the_current_one_and_leaves_cudnn_attention_out(monkeypatch, device, current):
    chosen, cudnn, placed = [], [], []
    monkeypatch.setattr(torch._C, "_cuda_setDevice", chosen.append, raising=False)
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", cudnn.append)
    model = nn.Linear(2, 2)
    monkeypatch.setattr(model, "to", placed.append)
    Precision("fp32", torch.device(device)).place_model(model, base_trains=False)
    assert (chosen, cudnn, placed) == (current, [False], [torch.device(device)])
    Precision("fp32", torch.device("cpu")).place_model(model, base_trains=False)
    assert (chosen, cudnn) == (current, [False])


def test_the_precision_that_a_run_recorded(tmp_path):
    assert recorded_precision("bf16", CPU, tmp_path).dtype == torch.bfloat16
    assert recorded_precision("fp16", torch.device("cuda"), tmp_path).uses_loss_scaling
    with pytest.raises(UsageError, match="was trained in fp16, which needs CUDA") as caught:
        recorded_precision("fp16", CPU, tmp_path)
    assert caught.value.where == str(tmp_path) and "precision=fp32" in (caught.value.hint or "")
