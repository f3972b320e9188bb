"""A transformers model in f64 throughout, and the same with chosen rounding put back in.

transformers computes norms, softmax and RoPE angles in f32 even when the model is f64. exact()
replaces these, so that what is left is far below f32 rounding. `Rounding` then models an engine:
which values it keeps in BF16, and how large the rounding errors of its f32 arithmetic are.
"""

import dataclasses
import math

import torch
import transformers

U = 2.0**-24  # unit roundoff of f32


@dataclasses.dataclass
class Rounding:
    linear: bool = False  # inputs of matrix products in BF16
    kv: bool = False  # K (after RoPE) and V in BF16
    scores: bool = False  # q (after RoPE) and the softmax weights in BF16
    weights: bool = False  # matrices in BF16
    noise: torch.Generator | None = None  # f32 arithmetic: errors drawn at each operation

    def error(self, value, size):
        """value + a normal error of standard deviation `size`."""
        if self.noise is None:
            return value
        return value + size * torch.randn(value.shape, generator=self.noise, dtype=value.dtype)


def sum_error(terms, result, squares):
    """Standard deviation of the f32 rounding errors of a sum, its terms added one after the other.

    Each addition errs by a share of at most U of the partial sum, uniformly: variance U^2/3. Over
    all orders of the n terms, the k-th partial sum has mean k/n * result and variance about
    k/n (1 - k/n) * squares; summed over k: n (result^2/3 + squares/6). Vectorised sums have shorter
    chains and err less."""
    partial = terms * (result.pow(2) / 3 + squares / 6)
    return U / math.sqrt(3) * (partial + squares).sqrt()  # + squares: the products' own rounding


def to_bf16(value, wanted=True):
    return value.to(torch.bfloat16).to(value.dtype) if wanted else value


def inverse_frequencies(config):
    """RoPE frequencies in f64, written from the formulas and not from transformers' code."""
    rope = config.rope_parameters
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    base = rope["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if rope["rope_type"] == "default":
        return base
    if rope["rope_type"] == "linear":
        return base / rope["factor"]
    assert rope["rope_type"] == "llama3", rope
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] * base / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return base * (kept + (1 - kept) / rope["factor"])


class Patches:
    """Forward functions that replace those of a model's parts."""

    FROM_CONFIG = object()

    def __init__(self, rounding):
        self.rounding = rounding
        self.window = self.FROM_CONFIG  # or a size that overrides the model's, None: no window

    def norm(self, module):
        weight, eps = module.weight, module.variance_epsilon

        def forward(x):
            result = weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))
            return self.rounding.error(result, 2 * U * result.abs())  # sum, root, two products

        return forward

    def rotary(self, module):
        frequencies = inverse_frequencies(module.config)

        def forward(x, position_ids):
            angles = position_ids[..., None].double() * frequencies
            angles = self.rounding.error(angles, U * angles)  # frequency and product in f32
            angles = torch.cat((angles, angles), dim=-1)
            return angles.cos(), angles.sin()

        return forward

    def linear(self, module):
        weight = to_bf16(module.weight, self.rounding.weights)

        def forward(x):
            x = to_bf16(x, self.rounding.linear)
            result = torch.nn.functional.linear(x, weight, module.bias)
            if self.rounding.noise is None:
                return result
            squares = torch.nn.functional.linear(x.pow(2), weight.pow(2))
            return self.rounding.error(result, sum_error(x.shape[-1], result, squares))

        return forward

    def activation(self, module):
        original = module.forward

        def forward(x):
            result = original(x)
            return self.rounding.error(result, 2 * U * result.abs())  # exp, sum, quotient, product

        return forward

    def residual(self, _, __, output):
        return self.rounding.error(output, U * output.abs())

    def attention(self, module, query, key, value, scaling, sliding_window):
        rounding = self.rounding
        groups, length = module.num_key_value_groups, query.shape[2]
        key = to_bf16(key, rounding.kv).repeat_interleave(groups, dim=1)
        value = to_bf16(value, rounding.kv).repeat_interleave(groups, dim=1)
        query = to_bf16(query, rounding.scores)
        scores = query @ key.transpose(2, 3)
        if rounding.noise is not None:
            squares = query.pow(2) @ key.pow(2).transpose(2, 3)
            scores = rounding.error(scores, sum_error(query.shape[-1], scores, squares))
        if self.window is not self.FROM_CONFIG:
            sliding_window = self.window
        behind = torch.arange(length)[:, None] - torch.arange(length)[None, :]
        visible = behind >= 0
        if sliding_window is not None:
            visible &= behind < sliding_window
        scores = (scores * scaling).masked_fill(~visible, -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        weights = rounding.error(weights, 2 * U * weights)
        out = to_bf16(weights, rounding.scores) @ value
        if rounding.noise is not None:
            squares = weights.pow(2) @ value.pow(2)
            out = rounding.error(out, sum_error(length, out, squares))
        return out.transpose(1, 2).contiguous(), weights


def attention(module, query, key, value, _, scaling, sliding_window=None, **__):
    """Causal attention without a cache, by the patches of the model that `module` belongs to."""
    return module.patches.attention(module, query, key, value, scaling, sliding_window)


transformers.AttentionInterface.register("exact", attention)
transformers.AttentionMaskInterface.register("exact", lambda *_, **__: None)


def exact(folder, rounding=None, edit=lambda model: None):
    """The model in `folder`, f64, with the given rounding, after `edit` has changed its parts."""
    rounding = rounding or Rounding()
    patches = Patches(rounding)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="exact").eval()
    for module in model.modules():
        if type(module).__name__.endswith("Attention"):
            module.patches = patches
    edit(model)
    if rounding.weights:
        embedding = model.model.embed_tokens.weight
        embedding.data = to_bf16(embedding.data)
    for module in model.modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            module.forward = patches.norm(module)
        elif kind.endswith("RotaryEmbedding"):
            module.forward = patches.rotary(module)
        elif kind == "Linear":
            module.forward = patches.linear(module)
        elif kind.startswith("SiLU"):
            module.forward = patches.activation(module)
        elif kind.endswith("DecoderLayer"):
            module.register_forward_hook(patches.residual)
    return model
