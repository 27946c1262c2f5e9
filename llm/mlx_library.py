"""The one door to mlx, mlx-lm and llguidance: an optional extra without type stubs, imported late."""

import importlib
from dataclasses import dataclass
from typing import Any

from schemas.errors import CouldNotStart


@dataclass(frozen=True, slots=True)
class Library:
    """The modules, untyped: `mx` arrays, `nn` layers, the rest by their own names."""

    mx: Any
    nn: Any
    llama: Any
    cache: Any
    generate: Any
    utils: Any
    tokenizer_utils: Any
    tokenizers: Any
    transformers: Any
    llguidance: Any
    numpy: Any

    @property
    def on_gpu(self) -> bool:
        """Whether the model computes on a graphics processor."""
        return bool(self.mx.default_device() == self.mx.gpu)


def library() -> Library:
    """Import it all: some seconds, the first time.

    Raises CouldNotStart with code `model.library`.
    """
    try:
        return Library(
            mx=importlib.import_module("mlx.core"),
            nn=importlib.import_module("mlx.nn"),
            llama=importlib.import_module("mlx_lm.models.llama"),
            cache=importlib.import_module("mlx_lm.models.cache"),
            generate=importlib.import_module("mlx_lm.generate"),
            utils=importlib.import_module("mlx_lm.utils"),
            tokenizer_utils=importlib.import_module("mlx_lm.tokenizer_utils"),
            tokenizers=importlib.import_module("tokenizers"),
            transformers=importlib.import_module("transformers"),
            llguidance=importlib.import_module("llguidance"),
            numpy=importlib.import_module("numpy"),
        )
    except ImportError as problem:
        raise CouldNotStart(
            "model.library",
            f"The MLX engine can't be loaded: {problem}",
            "Install it: pip install victoria-streams[mlx]",
        ) from problem
