"""Hand-written transformer layers for frozen weights.

``install_fused_layers(model)`` replaces the ``forward`` of every layer that is built like BERT's.
At each call, the layer is computed by ``bertft.models.fused.layer`` if that is exact, and by the
modules of transformers otherwise.
"""

from bertft.models.fused.dispatch import FusedForward, install_fused_layers

__all__ = ["FusedForward", "install_fused_layers"]
