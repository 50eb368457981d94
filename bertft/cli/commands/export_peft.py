"""A run's low-rank updates as an adapter that peft loads."""

from __future__ import annotations

from pathlib import Path

from bertft.config.command_configs import ExportConfig
from bertft.errors import UsageError
from bertft.export.equivalence import EquivalenceCheck
from bertft.export.peft_adapter import write_peft_adapter
from bertft.pipeline.open_model import open_from_settings, open_model
from bertft.utils.terminal import print_warning

__all__ = ["write"]


def write(config: ExportConfig, folder: Path, name: str) -> list[str]:
    """Fill ``folder``, which will be called ``name``; what there is to say of it."""
    saved = open_from_settings(config, "fp32", warn=print_warning)
    if saved.run is None:
        raise UsageError(
            f"{config.run} is no run",
            where="run",
            hint="Give a folder that bertft train left; format=onnx takes others too",
        )
    adapted = saved.task_model
    proof = EquivalenceCheck(saved)
    adapted.fold_temperature()
    tensors = write_peft_adapter(folder, saved)
    adapted.tokenizer.save_pretrained(folder)
    reloaded = open_model(
        str(folder),
        precision="fp32",
        device=config.device,
        data=saved.data,
        trust_remote_code=config.trust_remote_code,
    )
    line = proof.write_card(
        folder, name, reloaded, what="adapter", where=str(config.run), library="peft"
    )
    matrices = sum(tensor_name.endswith("lora_A.weight") for tensor_name in tensors)
    description = f"the updates of {matrices} matrices" if matrices else f"{len(tensors)} tensors"
    return [f"wrote {description} as a peft adapter into {config.out}", line]
