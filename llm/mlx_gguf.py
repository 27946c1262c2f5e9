"""A llama model in a GGUF file as a model and tokenizer of mlx-lm: weights, sizes, vocabulary and chat template."""

from pathlib import Path
from typing import Any

from llm.gguf import check_structure
from llm.mlx_library import Library
from schemas.errors import CouldNotStart

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GROUP = 32
"""Weights that share a scale in all of GGUF's formats that mlx keeps as they are."""

_PRE = {"smollm": True, "gpt-2": False}
"""Pre-tokenizers known here: do they cut numbers into single digits?"""

_CONTROL, _USER = 3, 4
"""Kinds of tokens that are found in text before anything else is."""


def load_gguf(library: Library, path: Path) -> tuple[Any, Any, int]:
    """The model, its TokenizerWrapper, and the tokens of context it was made for. Takes seconds.

    Raises CouldNotStart with code `model.broken`: not a complete GGUF file, or a kind of model not known here.
    """
    check_structure(path)
    try:
        weights, metadata = library.mx.load(str(path), format="gguf", return_metadata=True)
        kind = metadata["general.architecture"]
        if kind != "llama":
            raise _unknown(path, f"a model of kind {kind!r}")
        model = _model(library, weights, metadata)
        return model, _tokenizer(library, path, metadata), _number(metadata, "llama.context_length")
    except (KeyError, ValueError, RuntimeError, TypeError, IndexError) as problem:
        raise CouldNotStart(
            "model.broken",
            f"{path} can't be loaded as a model: {problem}",
            "The file may be cut short or too new: delete it to fetch it again, or set VICTORIA_LOCAL_MODEL.",
        ) from problem


def _model(library: Library, weights: dict[str, Any], metadata: dict[str, Any]) -> Any:
    mx, nn = library.mx, library.nn
    parts = {_renamed(name): part for name, part in weights.items() if not name.startswith("rope_freqs")}
    if not library.on_gpu:
        # mlx computes with packed weights, and with 16 bits, some 10 to 40 times slower than with 32 on a processor.
        parts = _unpacked(mx, parts)
    sizes = library.llama.ModelArgs(
        model_type="llama",
        hidden_size=_number(metadata, "llama.embedding_length"),
        num_hidden_layers=_number(metadata, "llama.block_count"),
        intermediate_size=_number(metadata, "llama.feed_forward_length"),
        num_attention_heads=_number(metadata, "llama.attention.head_count"),
        num_key_value_heads=_number(metadata, "llama.attention.head_count_kv"),
        rms_norm_eps=metadata["llama.attention.layer_norm_rms_epsilon"].item(),
        vocab_size=len(metadata["tokenizer.ggml.tokens"]),
        max_position_embeddings=_number(metadata, "llama.context_length"),
        rope_theta=metadata["llama.rope.freq_base"].item(),
        # GGUF files hold the rows of q and k in the order that rotates neighbours, which mlx calls traditional.
        rope_traditional=True,
        tie_word_embeddings="lm_head.weight" not in parts,
    )
    model = library.llama.Model(sizes)

    def packed(name: str, _: Any) -> bool | dict[str, int]:
        if f"{name}.scales" not in parts:
            return False
        bits = parts[f"{name}.weight"].shape[-1] // parts[f"{name}.scales"].shape[-1]  # 32 bits a word, 32 a group
        return {"group_size": _GROUP, "bits": bits}

    nn.quantize(model, class_predicate=packed)
    model.load_weights(list(parts.items()))
    model.eval()
    mx.eval(model.parameters())
    return model


def _renamed(name: str) -> str:
    """`blk.3.attn_q.weight` is model.layers.3.self_attn.q_proj.weight."""
    match name.split("."):
        case ["blk", layer, part, kind]:
            return f"model.layers.{layer}.{_LAYER[part]}.{kind}"
        case [part, kind]:
            return f"{_TOP[part]}.{kind}"
        case _:
            raise KeyError(name)


def _unpacked(mx: Any, parts: dict[str, Any]) -> dict[str, Any]:
    """Every weight as 32-bit floats."""
    plain: dict[str, Any] = {}
    for name, part in parts.items():
        stem, _, kind = name.rpartition(".")
        scales = parts.get(f"{stem}.scales")
        if scales is None:
            plain[name] = part.astype(mx.float32)
        elif kind == "weight":
            bits = part.shape[-1] // scales.shape[-1]
            whole = mx.dequantize(part, scales, parts[f"{stem}.biases"], group_size=_GROUP, bits=bits)
            plain[name] = whole.astype(mx.float32)
    return plain


def _tokenizer(library: Library, path: Path, metadata: dict[str, Any]) -> Any:
    """A byte-level BPE tokenizer, as GPT-2's, with the file's chat template."""
    style, pre = metadata["tokenizer.ggml.model"], metadata.get("tokenizer.ggml.pre", "gpt-2")
    if style != "gpt2" or pre not in _PRE:
        raise _unknown(path, f"a tokenizer of kind {style!r}, {pre!r}")
    parts, tokens = library.tokenizers, metadata["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ", 1)) for pair in metadata["tokenizer.ggml.merges"]]
    bpe = parts.models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges)
    tokenizer = parts.Tokenizer(bpe)
    cuts = [parts.pre_tokenizers.Digits(individual_digits=True)] if _PRE[pre] else []
    cuts.append(parts.pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.pre_tokenizer = parts.pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = parts.decoders.ByteLevel()
    kinds = metadata["tokenizer.ggml.token_type"].tolist()
    for chosen, special in ((_CONTROL, True), (_USER, False)):
        added = [token for token, kind in zip(tokens, kinds, strict=True) if kind == chosen]
        tokenizer.add_tokens([parts.AddedToken(token, special=special, normalized=False) for token in added])
    fast = library.transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=tokens[_number(metadata, "tokenizer.ggml.eos_token_id")],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = metadata["tokenizer.chat_template"]
    return library.tokenizer_utils.TokenizerWrapper(fast)


def _number(metadata: dict[str, Any], name: str) -> int:
    return int(metadata[name].item())


def _unknown(path: Path, what: str) -> CouldNotStart:
    return CouldNotStart(
        "model.broken",
        f"{path} holds {what}, which the MLX engine does not know.",
        "Use a folder with the model in MLX's own format, or run this file with the embedded engine.",
    )
