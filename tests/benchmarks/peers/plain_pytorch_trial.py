"""One trial of experiments/digits.yaml, written the way its users write it in PyTorch: train a network on a fold, then adapt
it to the shifted held-out part by entropy and diversity, and return what was measured. Nothing of tenfold is used."""
import itertools
import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from torch import nn

FOLDS = int(os.environ.get("PEER_FOLDS", "5"))
EPOCHS = 20
TRAIN_BATCH = 32
PASSES = 50
QUERY_SIZE = 750
NOISE = 0.18  # of the feature range: gaussian_noise, severity 3
DIVERSITY_WEIGHT = 0.15

CONFIGURATIONS = [
    {"batch_size": batch_size, "lr": lr, "parameters": parameters}
    for batch_size, lr, parameters in itertools.product([32, 64], [3e-5, 1e-4, 3e-4], ["norm", "all"])
]
TRIALS = [(configuration, fold) for configuration in CONFIGURATIONS for fold in range(FOLDS)]


class Net(nn.Module):
    def __init__(self, features=64, hidden=128, classes=10, dropout=0.2):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, classes))

    def forward(self, x):
        return self.layers(x)


def load_fold(fold, seed=0):
    x, y = load_digits(return_X_y=True)
    splits = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, y)
    train, test = next(itertools.islice(splits, fold, None))
    random = np.random.default_rng(seed)
    shifted = x[test] + NOISE * (x[train].max() - x[train].min()) * random.standard_normal(x[test].shape)
    mean, std = x[train].mean(), x[train].std()  # of the one channel: noise on a constant pixel must not be blown up

    def tensors(samples, labels):
        return torch.tensor((samples - mean) / std, dtype=torch.float32), torch.tensor(labels)

    return tensors(x[train], y[train]), tensors(shifted, y[test])


@torch.no_grad()
def evaluate(model, x, y):
    model.eval()
    logits = model(x)
    probabilities = logits.softmax(1)
    confidence, predicted = probabilities.max(1)
    correct = (predicted == y).float()
    ece = 0.0
    for low in torch.arange(0, 1, 1 / 15).tolist():
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            ece += (inside.float().mean() * (confidence[inside].mean() - correct[inside].mean()).abs()).item()
    return {"accuracy": correct.mean().item(), "nll": F.cross_entropy(logits, y).item(), "ece": ece}


def train(model, x, y):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    losses = []
    for _ in range(EPOCHS):
        model.train()
        order = torch.randperm(len(x), device=x.device)
        for batch in order.split(TRAIN_BATCH):
            loss = F.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append((loss.item(), norm.item()))
    return losses


def adaptation_losses(logits):
    p = logits.softmax(1)
    entropy = -(p * (p + 1e-8).log()).sum(1).mean()
    mean = p.mean(0)
    diversity = 1 + (mean * (mean + 1e-8).log()).sum() / math.log(p.shape[1])
    return entropy + DIVERSITY_WEIGHT * diversity, entropy, diversity


def adapt(model, x, configuration):
    x = x[:QUERY_SIZE]
    if configuration["parameters"] == "norm":
        adapted = [p for m in model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()]
        chosen = {id(p) for p in adapted}
        for p in model.parameters():
            p.requires_grad_(id(p) in chosen)
    else:
        adapted = list(model.parameters())
    optimizer = torch.optim.AdamW(adapted, lr=configuration["lr"], weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.8, patience=20, min_lr=1e-6)
    steps = []
    for step in range(PASSES):
        model.train()  # dropout stays active
        sums = [0.0, 0.0, 0.0, 0.0]
        order = torch.randperm(len(x), device=x.device)
        for batch in order.split(configuration["batch_size"]):
            total, entropy, diversity = adaptation_losses(model(x[batch]))
            optimizer.zero_grad()
            total.backward()
            norm = nn.utils.clip_grad_norm_(adapted, 1.0)
            optimizer.step()
            for i, value in enumerate((total, entropy, diversity, norm)):
                sums[i] += value.item() * len(batch)
        means = [s / len(x) for s in sums]
        steps.append({"step": step + 1, "total": means[0], "entropy": means[1], "diversity": means[2], "grad_norm": means[3],
                      "lr": optimizer.param_groups[0]["lr"]})
        scheduler.step(means[0])
    return steps


def run_trial(configuration, fold, device="cpu", seed=0):
    torch.manual_seed(seed)
    (train_x, train_y), (test_x, test_y) = load_fold(fold)
    model = Net().to(device)
    train_x, train_y, test_x, test_y = (t.to(device) for t in (train_x, train_y, test_x, test_y))
    train_losses = train(model, train_x, train_y)
    before = evaluate(model, test_x, test_y)
    steps = adapt(model, test_x, configuration)
    after = evaluate(model, test_x, test_y)
    return {"fold": fold, **configuration, "train_loss": train_losses[-1][0], "steps": steps,
            "before": before, "after": after}


def summary(results):
    """What a peer prints, so that the mathematics can be compared with tenfold's: means over all trials."""
    def mean(values):
        values = list(values)
        return sum(values) / len(values)

    return {"trials": len(results),
            "accuracy_before": mean(r["before"]["accuracy"] for r in results),
            "accuracy_after": mean(r["after"]["accuracy"] for r in results),
            "first_total": mean(r["steps"][0]["total"] for r in results),
            "last_total": mean(r["steps"][-1]["total"] for r in results)}
