"""A run's low-rank updates as an adapter that peft loads."""

from __future__ import annotations

from pathlib import Path

from bertft.assembly.adapter_written import write_adapter
from bertft.assembly.opened import open_asked, open_saved
from bertft.assembly.warn import warn
from bertft.config.commands import ExportConfig
from bertft.errors import UsageError
from bertft.formats.proof import Proof

__all__ = ["write"]


def write(config: ExportConfig, folder: Path, name: str) -> list[str]:
    """Fill ``folder``, which will be called ``name``; what there is to say of it."""
    saved = open_asked(config, "fp32", warn=warn)
    if saved.run is None:
        raise UsageError(
            f"{config.run} is no run", where="run",
            hint="Give a folder that bertft train left; format=onnx takes others too",
        )  # fmt: skip
    adapted = saved.adapted
    proof = Proof(saved)
    adapted.fold_temperature()
    tensors = write_adapter(folder, saved)
    adapted.tokenizer.save_pretrained(folder)
    again = open_saved(
        str(folder), precision="fp32", device=config.device,
        data=saved.data, trust=config.trust_remote_code,
    )  # fmt: skip
    line = proof.write(folder, name, again, what="adapter", where=str(config.run), form="peft")
    matrices = sum(each.endswith("lora_A.weight") for each in tensors)
    what = f"the updates of {matrices} matrices" if matrices else f"{len(tensors)} tensors"
    return [f"wrote {what} as a peft adapter into {config.out}", line]
