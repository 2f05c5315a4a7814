#!/usr/bin/env python3
"""Train steps of a language model with TTT-Linear or TTT-MLP layers in plain eager PyTorch: one trial, one operation after
the other, a Python loop over the mini-batches, AdamW of torch.optim. The peer of the product's ttt_lm at equal sizes; prints
one JSON object a line with the keys of ttt_layer_benchmark.

    plain_pytorch_ttt_lm.py --device cuda:0 --models ttt_linear,ttt_mlp --seconds 5
    plain_pytorch_ttt_lm.py --golden tests/golden/ttt_lm_mlp.safetensors      # checks this program instead
"""
import argparse
import json
import math
import struct
import time

import torch
from torch import nn
from torch.nn import functional as F

ROW_EPS = 1e-6


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + ROW_EPS)


def rotate_pairs(x, m):
    """x (B, H, n, m, f): interleaved pairs, positions within the mini-batch."""
    f = x.shape[-1]
    frequency = 1.0 / (10000 ** (torch.arange(0, f, 2, device=x.device).float() / f))
    angle = torch.outer(torch.arange(m, device=x.device).float(), frequency)[: x.shape[-2]]
    a, b = x[..., 0::2], x[..., 1::2]
    turned = torch.stack((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), -1)
    return turned.flatten(-2)


def gelu_slope(x):
    t = torch.tanh(0.79788456 * x * (1 + 0.044715 * x * x))
    return 0.5 * x * ((1 - t * t) * (0.79788456 + 0.1070322243 * x * x)) + 0.5 * (1 + t)


def norm(z, gamma, beta):
    mean, variance = z.mean(-1, keepdim=True), z.var(-1, keepdim=True, unbiased=False)
    return gamma * (z - mean) / torch.sqrt(variance + ROW_EPS) + beta


def loss_gradient(z, target, gamma, beta):
    f = z.shape[-1]
    std = torch.sqrt(z.var(-1, keepdim=True, unbiased=False) + ROW_EPS)
    xhat = (z - z.mean(-1, keepdim=True)) / std
    d = (gamma * xhat + beta - target) * gamma
    return (f * d - d.sum(-1, keepdim=True) - xhat * (d * xhat).sum(-1, keepdim=True)) / (f * std)


class TttLayer(nn.Module):
    def __init__(self, kind, width, heads, m, base_lr):
        super().__init__()
        self.kind, self.heads, self.m, self.base_lr = kind, heads, m, base_lr
        f = width // heads
        hidden = f if kind == "linear" else 4 * f
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(width, width, bias=False))
        self.W1 = nn.Parameter(0.02 * torch.randn(heads, f, hidden))
        self.b1 = nn.Parameter(torch.zeros(heads, 1, hidden))
        if kind == "mlp":
            self.W2 = nn.Parameter(0.02 * torch.randn(heads, hidden, f))
            self.b2 = nn.Parameter(torch.zeros(heads, 1, f))
        self.learnable_ttt_lr_weight = nn.Parameter(0.02 * torch.randn(heads, 1, width))
        self.learnable_ttt_lr_bias = nn.Parameter(torch.zeros(heads, 1))
        self.learnable_token_idx = nn.Parameter(torch.zeros(m))
        self.ttt_norm_weight = nn.Parameter(torch.ones(heads, f))
        self.ttt_norm_bias = nn.Parameter(torch.zeros(heads, f))
        self.post_norm = nn.LayerNorm(width, eps=ROW_EPS)

    def forward(self, x):
        b, t, width = x.shape
        whole = t // self.m * self.m
        state = [w.unsqueeze(0).expand(b, *w.shape) for w in
                 ([self.W1, self.b1] if self.kind == "linear" else [self.W1, self.b1, self.W2, self.b2])]
        pieces = []
        for first, count, length in ((0, whole // self.m, self.m), (whole, 1, t - whole)):
            if count * length > 0:
                piece, state = self.scan(x[:, first:first + count * length], count, length, state)
                pieces.append(piece)
        return self.o_proj(self.post_norm(torch.cat(pieces, 1)))

    def scan(self, x, n, m, state):
        b, t, width = x.shape
        h, f = self.heads, width // self.heads
        split = lambda y: y.view(b, n, m, h, f).permute(0, 3, 1, 2, 4)
        q, k = rotate_pairs(split(self.q_proj(x)), m), rotate_pairs(split(self.k_proj(x)), m)
        v = split(self.v_proj(x))
        rate = torch.einsum("btw,hiw->bht", x, self.learnable_ttt_lr_weight) + self.learnable_ttt_lr_bias
        rate = (self.base_lr / f * torch.sigmoid(rate)).view(b, h, n, 1, m)
        row = (1.0 / torch.arange(1, self.m + 1, device=x.device) + self.learnable_token_idx).clamp_min(0)[:m]
        eta = row.view(1, 1, 1, m, 1) * rate
        gamma, beta = self.ttt_norm_weight.view(1, h, 1, f), self.ttt_norm_bias.view(1, h, 1, f)
        outputs = []
        step = self.linear if self.kind == "linear" else self.mlp
        for i in range(n):
            z, state = step(q[:, :, i], k[:, :, i], v[:, :, i], eta[:, :, i], gamma, beta, state)
            outputs.append(q[:, :, i] + norm(z, gamma, beta))
        y = torch.stack(outputs, 2)  # (B, H, n, m, f)
        return y.permute(0, 2, 3, 1, 4).reshape(b, t, width), state

    @staticmethod
    def linear(q, k, v, eta, gamma, beta, state):
        w, bias = state
        g = loss_gradient(k @ w + bias, v - k, gamma, beta)
        z = q @ w - (eta * torch.tril(q @ k.transpose(-2, -1))) @ g + bias - torch.tril(eta) @ g
        last = eta[:, :, -1, :, None]
        return z, [w - (last * k).transpose(-1, -2) @ g, bias - (last * g).sum(-2, keepdim=True)]

    @staticmethod
    def mlp(q, k, v, eta, gamma, beta, state):
        w1, b1, w2, b2 = state
        z1 = k @ w1 + b1
        x2 = F.gelu(z1, approximate="tanh")
        g2 = loss_gradient(x2 @ w2 + b2, v - k, gamma, beta)
        g1 = g2 @ w2.transpose(-2, -1) * gelu_slope(z1)
        z1_bar = q @ w1 - (eta * torch.tril(q @ k.transpose(-2, -1))) @ g1 + b1 - torch.tril(eta) @ g1
        u = F.gelu(z1_bar, approximate="tanh")
        z2_bar = u @ w2 - (eta * torch.tril(u @ x2.transpose(-2, -1))) @ g2 + b2 - torch.tril(eta) @ g2
        last = eta[:, :, -1, :, None]
        return z2_bar, [w1 - (last * k).transpose(-1, -2) @ g1, b1 - (last * g1).sum(-2, keepdim=True),
                        w2 - (last * x2).transpose(-1, -2) @ g2, b2 - (last * g2).sum(-2, keepdim=True)]


class Mlp(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, kind, width, inner, heads, m, base_lr):
        super().__init__()
        self.seq_norm, self.ffn_norm = RmsNorm(width), RmsNorm(width)
        self.seq_modeling_block = TttLayer(kind, width, heads, m, base_lr)
        self.mlp = Mlp(width, inner)

    def forward(self, x):
        x = x + self.seq_modeling_block(self.seq_norm(x))
        return x + self.mlp(self.ffn_norm(x))


class Body(nn.Module):
    def __init__(self, vocabulary, layers, width, *rest):
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Block(rest[0], width, *rest[1:]) for _ in range(layers))
        self.norm = RmsNorm(width)

    def forward(self, tokens):
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class LanguageModel(nn.Module):
    def __init__(self, vocabulary, layers, width, kind, inner, heads, m, base_lr):
        super().__init__()
        self.model = Body(vocabulary, layers, width, kind, inner, heads, m, base_lr)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens):
        return self.lm_head(self.model(tokens))


def check_golden(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    c = json.loads(header.pop("__metadata__")["config"])
    types = {"F32": torch.float32, "I64": torch.int64}
    tensor = {name: torch.frombuffer(bytearray(data[slice(*entry["data_offsets"])]), dtype=types[entry["dtype"]])
              .view(entry["shape"]) for name, entry in header.items()}
    model = LanguageModel(c["vocab_size"], c["num_hidden_layers"], c["hidden_size"], c["ttt_layer_type"],
                          c["intermediate_size"], c["num_attention_heads"], c["mini_batch_size"], c["ttt_base_lr"])
    model.load_state_dict({k[len("weights."):]: v for k, v in tensor.items() if k.startswith("weights.")})
    logits = model(tensor["input_ids"])
    F.cross_entropy(logits[:, :-1].flatten(0, 1), tensor["input_ids"][:, 1:].flatten()).backward()
    error = lambda a, b: ((a - b).abs().max() / b.abs().max()).item()
    worst = max(error(p.grad, tensor["grad." + name]) for name, p in model.named_parameters())
    print(f"logits off by {error(logits, tensor['logits']):.1e}, gradients by at most {worst:.1e}")
    return 0 if max(worst, error(logits, tensor["logits"])) < 1e-4 else 1


def measure(call, synchronise, seconds):
    call()
    synchronise()
    begin, repeats = time.perf_counter(), 0
    while repeats < 2 or time.perf_counter() - begin < seconds:
        call()
        synchronise()
        repeats += 1
    return (time.perf_counter() - begin) / repeats, repeats


def benchmark(arguments, name):
    device = torch.device(arguments.device)
    kind = name.removeprefix("ttt_")
    inner = math.ceil(8 * arguments.width / 3 / 16) * 16
    torch.manual_seed(1)
    model = LanguageModel(256, arguments.layers, arguments.width, kind, inner, arguments.heads, 16,
                          1.0 if kind == "linear" else 0.1).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = torch.randint(256, (arguments.batch, arguments.steps), device=device)
    labels = torch.randint(256, (arguments.batch * arguments.steps,), device=device)
    synchronise = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)

    def forward():
        with torch.no_grad():
            model(tokens)

    def train():
        loss = F.cross_entropy(model(tokens).flatten(0, 1), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    forward_s, _ = measure(forward, synchronise, arguments.seconds / 4)
    step_s, repeats = measure(train, synchronise, arguments.seconds)
    print(json.dumps({"model": name, "peer": "plain PyTorch " + torch.__version__, "device": arguments.device, "members": 1,
                      "batch": arguments.batch, "steps": arguments.steps, "layers": arguments.layers,
                      "width": arguments.width, "heads": arguments.heads,
                      "parameters": sum(p.numel() for p in model.parameters()),
                      "forward_s": forward_s, "step_s": step_s, "repeats": repeats}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", default="ttt_linear,ttt_mlp")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--golden")
    arguments = parser.parse_args()
    if arguments.golden:
        return check_golden(arguments.golden)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = True
    for name in arguments.models.split(","):
        benchmark(arguments, name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
