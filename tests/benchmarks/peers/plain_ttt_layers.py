"""One train step of one trial in eager PyTorch, as the formulas of the layers read. Reads the case from standard input, a line
of ttt_layer_benchmark, and writes {"step_s", "loss", "parameters"}.
"""
import argparse
import json
import math
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class TttRnnCell(nn.Module):
    def __init__(self, inputs, units, iterations, rate):
        super().__init__()
        self.phi, self.psi = nn.Linear(inputs + units, units), nn.Linear(inputs + units, units)
        self.encoder = nn.ModuleList([nn.Linear(units, 4 * units), nn.Linear(4 * units, units)])
        self.g, self.h, self.ln = nn.Linear(units, units), nn.Linear(units, units), nn.LayerNorm(units, eps=1e-3)
        self.iterations, self.rate = iterations, rate

    @staticmethod
    def encode(x, weights):
        w0, b0, w1, b1 = weights
        return F.linear(F.gelu(F.linear(x, w0, b0)), w1, b1)

    def forward(self, x, state):
        u = torch.cat([x, state], -1)
        a, q = self.phi(u), self.psi(u)
        weights = [p for layer in self.encoder for p in (layer.weight, layer.bias)]
        for i in range(self.iterations):
            # Apart from the outer graph, which autograd would walk back to the first time step at every inner gradient.
            still, leaves = a.detach(), [w.detach().requires_grad_() for w in weights]
            loss = (self.ln(self.g(self.encode(still, leaves))) - still).square().mean()
            gradients = torch.autograd.grad(loss, leaves)
            if i + 1 == self.iterations:
                r = self.ln(self.g(self.encode(a, weights)))
            weights = [w - self.rate * gradient for w, gradient in zip(weights, gradients)]
        return self.h(self.encode(q, weights) + 0.1 * r)


class TttRnn(nn.Module):
    def __init__(self, case):
        super().__init__()
        units = case["units"]
        self.initial_state = nn.Parameter(torch.zeros(1, units))
        self.cells = nn.ModuleList([TttRnnCell(case["features"] if i == 0 else units, units, case["inner_iterations"], 0.01)
                                    for i in range(case["layers"])])
        self.readout = nn.Linear(units, case["classes"])

    def forward(self, x):
        for i, cell in enumerate(self.cells):
            state = self.initial_state.expand(x.shape[0], -1) if i == 0 else x.new_zeros(x.shape[0], x.shape[2])
            states = []
            for t in range(x.shape[1]):
                state = cell(x[:, t], state)
                states.append(state)
            x = torch.stack(states, 1)
        return self.readout(x)


class Gru(nn.Module):
    def __init__(self, case):
        super().__init__()
        self.gru = nn.GRU(case["features"], case["units"], case["layers"], batch_first=True)
        self.readout = nn.Linear(case["units"], case["classes"])

    def forward(self, x):
        return self.readout(self.gru(x)[0])


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


def norm(z):
    """xhat and standard deviation."""
    mean, variance = z.mean(-1, keepdim=True), z.var(-1, keepdim=True, unbiased=False)
    sd = torch.sqrt(variance + 1e-6)
    return (z - mean) / sd, sd


def gelu_derivative(x):
    t = torch.tanh(0.79788456 * x * (1 + 0.044715 * x * x))
    return 0.5 * x * ((1 - t * t) * (0.79788456 + 0.1070322243 * x * x)) + 0.5 * (1 + t)


class TttLayer(nn.Module):
    """TTT-Linear or TTT-MLP in the dual form, mini-batch by mini-batch."""

    def __init__(self, case):
        super().__init__()
        width, self.heads, self.m = case["width"], case["heads"], case["mini_batch"]
        self.f, self.mlp = width // self.heads, case["model"] == "ttt_mlp"
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.rate_weight = nn.Parameter(torch.randn(self.heads, 1, width) * 0.02)
        self.rate_bias = nn.Parameter(torch.zeros(self.heads, 1))
        self.token = nn.Parameter(torch.zeros(self.m))
        self.gamma, self.beta = nn.Parameter(torch.ones(self.heads, self.f)), nn.Parameter(torch.zeros(self.heads, self.f))
        hidden = 4 * self.f if self.mlp else self.f
        self.w1, self.b1 = nn.Parameter(torch.randn(self.heads, self.f, hidden) * 0.02), nn.Parameter(torch.zeros(self.heads, 1, hidden))
        if self.mlp:
            self.w2 = nn.Parameter(torch.randn(self.heads, hidden, self.f) * 0.02)
            self.b2 = nn.Parameter(torch.zeros(self.heads, 1, self.f))
        self.post_norm = nn.LayerNorm(width, eps=1e-6)
        self.base_rate = (0.1 if self.mlp else 1.0) / self.f

    def rope(self, x):
        angle = torch.arange(self.m, device=x.device)[:, None] / 10000 ** (torch.arange(0, self.f, 2, device=x.device) / self.f)
        cosine, sine = angle.cos(), angle.sin()
        pairs = x.unflatten(-1, (-1, 2))
        even, odd = pairs[..., 0], pairs[..., 1]
        return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1).flatten(-2)

    def forward(self, x):
        batch, length, width = x.shape
        def split(y):  # (B, heads, mini-batches, m, f)
            return y.view(batch, length // self.m, self.m, self.heads, self.f).permute(0, 3, 1, 2, 4)
        q, k, v = self.rope(split(self.q(x))), self.rope(split(self.k(x))), split(self.v(x))
        rates = torch.sigmoid(torch.einsum("blw,hw->bhl", x, self.rate_weight[:, 0]) + self.rate_bias) * self.base_rate
        rates = rates.view(batch, self.heads, -1, 1, self.m)
        share = (1 / torch.arange(1, self.m + 1, device=x.device) + self.token).clamp_min(0)[:, None]
        gamma, beta = self.gamma[:, None], self.beta[:, None]
        w1, b1 = self.w1.expand(batch, -1, -1, -1), self.b1.expand(batch, -1, -1, -1)
        w2, b2 = (self.w2.expand(batch, -1, -1, -1), self.b2.expand(batch, -1, -1, -1)) if self.mlp else (None, None)
        outputs = []
        for i in range(length // self.m):
            qi, ki, eta = q[:, :, i], k[:, :, i], share * rates[:, :, i]
            last, lower = eta[:, :, -1:].transpose(-1, -2), torch.tril(eta)
            z1 = ki @ w1 + b1
            x2 = F.gelu(z1, approximate="tanh") if self.mlp else None
            xhat, sd = norm(x2 @ w2 + b2 if self.mlp else z1)
            d = (gamma * xhat + beta - (v[:, :, i] - ki)) * gamma
            g = (self.f * d - d.sum(-1, keepdim=True) - xhat * (d * xhat).sum(-1, keepdim=True)) / (self.f * sd)
            g1 = (g @ w2.transpose(-1, -2)) * gelu_derivative(z1) if self.mlp else g
            bar = qi @ w1 - (eta * torch.tril(qi @ ki.transpose(-1, -2))) @ g1 + b1 - lower @ g1
            if self.mlp:
                x2bar = F.gelu(bar, approximate="tanh")
                bar = x2bar @ w2 - (eta * torch.tril(x2bar @ x2.transpose(-1, -2))) @ g + b2 - lower @ g
                w2, b2 = w2 - (last * x2).transpose(-1, -2) @ g, b2 - (last * g).sum(-2, keepdim=True)
            w1, b1 = w1 - (last * ki).transpose(-1, -2) @ g1, b1 - (last * g1).sum(-2, keepdim=True)
            outputs.append(qi + gamma * norm(bar)[0] + beta)
        y = torch.stack(outputs, 2).permute(0, 2, 3, 1, 4).reshape(batch, length, width)
        return self.o(self.post_norm(y))


class TttLm(nn.Module):
    def __init__(self, case):
        super().__init__()
        width = case["width"]
        inner = math.ceil(8 * width / 3 / 16) * 16
        self.embed = nn.Embedding(case["classes"], width)
        self.blocks = nn.ModuleList([nn.ModuleDict({
            "ttt_norm": RmsNorm(width), "ttt": TttLayer(case), "ffn_norm": RmsNorm(width), "gate": nn.Linear(width, inner, bias=False),
            "up": nn.Linear(width, inner, bias=False), "down": nn.Linear(inner, width, bias=False)}) for _ in range(case["layers"])])
        self.norm, self.head = RmsNorm(width), nn.Linear(width, case["classes"], bias=False)

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = x + block["ttt"](block["ttt_norm"](x))
            y = block["ffn_norm"](x)
            x = x + block["down"](F.silu(block["gate"](y)) * block["up"](y))
        return self.head(self.norm(x))


MODELS = {"ttt_rnn": TttRnn, "gru": Gru, "ttt_linear": TttLm, "ttt_mlp": TttLm}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    case = json.load(sys.stdin)
    torch.manual_seed(1)
    torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = True
    device = torch.device(case["device"])
    model = MODELS[case["model"]](case).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    shape = (case["batch"], case["steps"])
    labels = torch.randint(case["classes"], shape, device=device)
    tokens = case["model"] in ("ttt_linear", "ttt_mlp")
    x = torch.randint(case["classes"], shape, device=device) if tokens else torch.randn(*shape, case["features"], device=device)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(x).flatten(0, 1), labels.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    loss = step()
    wait()
    begin, repeats = time.perf_counter(), 0
    while repeats < 2 or time.perf_counter() - begin < arguments.seconds:
        loss = step()
        wait()
        repeats += 1
    print(json.dumps({"step_s": (time.perf_counter() - begin) / repeats, "loss": loss.item(),
                      "parameters": sum(p.numel() for p in model.parameters())}))


if __name__ == "__main__":
    main()
