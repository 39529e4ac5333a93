"""One of two PyTorch processes that train together: what `bench_torch.py` runs.

Not run by hand. It is told its rank, and to train by `ddp` or by `fsdp`; reads the model,
its weights and its batch from a file; and for each line of input makes so many steps,
and says the loss before the last of them.
"""

import sys

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel


class Residual(nn.Module):
    """One block of the MLP."""

    def __init__(self, embed, hidden):
        super().__init__()
        self.up, self.down = nn.Linear(embed, hidden), nn.Linear(hidden, embed)

    def forward(self, x):
        return x + self.down(F.relu(self.up(x)))


def mlp(features, classes, embed, hidden, blocks):
    """Residual blocks between two dense layers."""
    inner = [Residual(embed, hidden) for _ in range(blocks)]
    return nn.Sequential(nn.Linear(features, embed), nn.ReLU(), *inner, nn.Linear(embed, classes))


class Decoding(nn.Module):
    """One block of the transformer: attention, then two dense layers."""

    def __init__(self, embed, heads, hidden):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv = nn.RMSNorm(embed, 1e-6), nn.Linear(embed, 3 * embed, bias=False)
        self.out = nn.Linear(embed, embed, bias=False)
        self.scale, self.up = nn.RMSNorm(embed, 1e-6), nn.Linear(embed, hidden, bias=False)
        self.down = nn.Linear(hidden, embed, bias=False)

    def forward(self, x):
        batch, seq, embed = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, seq, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [batch, heads, seq, size] each
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, seq, embed))
        return x + self.down(F.gelu(self.up(self.scale(x)), approximate="tanh"))


class Transformer(nn.Module):
    """Tokens in, logits out."""

    def __init__(self, vocabulary, embed, heads, hidden, blocks, length):
        super().__init__()
        self.table = nn.Embedding(vocabulary, embed)
        self.blocks = nn.ModuleList(Decoding(embed, heads, hidden) for _ in range(blocks))
        self.norm, self.head = nn.RMSNorm(embed, 1e-6), nn.Linear(embed, vocabulary, bias=False)
        angle = torch.arange(length)[:, None] * 10_000.0 ** -(torch.arange(0, embed, 2) / embed)
        self.register_buffer("places", torch.cat([angle.sin(), angle.cos()], -1))

    def forward(self, tokens):
        x = self.table(tokens) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).flatten(0, 1)


def cnn(image, classes, channels, hidden):
    """5x5 convolutions, each pooled, then dense layers."""
    rows, columns, inputs = image
    made = []
    for outputs in channels:
        made += [nn.Conv2d(inputs, outputs, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        inputs, rows, columns = outputs, rows // 2, columns // 2
    dense = nn.Linear(rows * columns * inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes)
    return nn.Sequential(*made, nn.Flatten(), *dense)


class Elman(nn.Module):
    """A dense layer, a recurrent one, a dense layer."""

    def __init__(self, features, outputs, hidden):
        super().__init__()
        self.first, self.last = nn.Linear(features, hidden), nn.Linear(hidden, outputs)
        self.cell = nn.RNN(hidden, hidden, batch_first=True)
        self.cell.bias_hh_l0.requires_grad_(False).zero_()  # one bias, as ours

    def forward(self, x):
        return self.last(self.cell(self.first(x))[0])


MODELS = {"mlp": mlp, "transformer": Transformer, "cnn": cnn, "rnn": Elman}


def spread(model, way):
    """Return the model as it trains on both processes."""
    if way == "ddp":
        return DistributedDataParallel(model)
    for block in model.modules():
        if isinstance(block, (Residual, Decoding)):
            fully_shard(block)
    return fully_shard(model)


def main(rank, way, name, port, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=int(rank), world_size=2
    )
    sizes = np.load(f"{folder}/sizes.npy", allow_pickle=True).item()
    model = MODELS[name](**sizes)
    trained = [(key, x) for key, x in model.named_parameters() if x.requires_grad]
    weights = np.load(f"{folder}/weights.npz")
    with torch.no_grad():
        for key, x in trained:
            x.copy_(torch.from_numpy(weights[key]))
    model = spread(model, way)
    optimizer = torch.optim.SGD([x for x in model.parameters() if x.requires_grad], lr=0.01)
    batch = np.load(f"{folder}/batch.npz")
    x, y = (torch.from_numpy(np.split(batch[key], 2)[int(rank)]) for key in ("x", "y"))
    criterion = nn.MSELoss() if y.is_floating_point() else nn.CrossEntropyLoss()
    y = y if y.is_floating_point() else y.long().flatten()
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        whole = loss.detach()
        dist.all_reduce(whole)
        print(whole.item() / 2, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
