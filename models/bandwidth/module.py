"""The net: an LSTM over the cells of a link and a head that answers each horizon with a whole distribution.

It does not forecast from nothing. Its centre is a weighted mean of the simple methods' forecasts (the weights are its
own, per moment and horizon) and a correction; around the centre it puts a histogram. Bins are narrow near the centre
and wide far out, so quantiles of any order come out of it in order, and the share of truths within any distance too.
All is in logarithms of ratios to the link's recent level.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.bandwidth.features import LEVEL, SIMPLE
from models.bandwidth.inference import BINS, CLIPPED, LEVEL_FAR, NEAR, REACH, Lstm

_SMOOTH_BINS = 0.6


@dataclass(frozen=True)
class Shape:
    """Sizes of a net; `recurrent` is ``lstm``, ``gru``, ``tcn``, ``transformer`` or ``none``."""

    steps: int
    features: int
    hidden: int = 48
    width: int = 96
    recurrent: str = "lstm"


class Causal(nn.Module):
    """The opponents of the LSTM in the ablation: same input, same output, no look at later cells."""

    def __init__(self, kind: str, steps: int, hidden: int) -> None:
        super().__init__()
        self.kind = kind
        self.enter = nn.Linear(steps, hidden)
        if kind == "tcn":
            self.layers = nn.ModuleList(nn.Conv1d(hidden, hidden, 3, dilation=2**i) for i in range(4))
        else:
            layer = nn.TransformerEncoderLayer(hidden, 4, 2 * hidden, dropout=0.0, batch_first=True, norm_first=True)
            self.layers = nn.ModuleList([nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)])
            self.place = nn.Parameter(torch.zeros(256, hidden))

    def forward(self, steps: Tensor) -> tuple[Tensor, None]:
        """``[B, T, C]`` to ``[B, T, hidden]``."""
        x = self.enter(steps)
        if self.kind == "tcn":
            x = x.transpose(1, 2)
            for i, layer in enumerate(self.layers):
                x = x + torch.relu(layer(nn.functional.pad(x, (2 * 2**i, 0))))
            return x.transpose(1, 2), None
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.layers[0](x + self.place[: x.shape[1]], mask=mask, is_causal=True), None


class Net(nn.Module):
    """Cells and features in, a centre and a histogram around it out."""

    mean: Tensor
    scale: Tensor
    used: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape.features))
        self.register_buffer("scale", torch.ones(shape.features))
        self.register_buffer("used", torch.ones(shape.steps))
        hidden = 0 if shape.recurrent == "none" else shape.hidden
        if shape.recurrent in {"lstm", "gru"}:
            kind = nn.LSTM if shape.recurrent == "lstm" else nn.GRU
            self.memory: nn.Module = kind(shape.steps, hidden, batch_first=True)
        elif hidden:
            self.memory = Causal(shape.recurrent, shape.steps, hidden)
        self.head = nn.Sequential(
            nn.Linear(hidden + 2 * shape.features, shape.width),
            nn.SiLU(),
            nn.Dropout(0.15),
            nn.Linear(shape.width, shape.width),
            nn.SiLU(),
            nn.Dropout(0.15),
            nn.Linear(shape.width, len(SIMPLE) + 1 + BINS),
        )

    def forward(
        self, steps: Tensor, link: Tensor, at: Tensor, features: Tensor, simple: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of N questions: cells ``[B, T, C]``, link and cell of each ``[N]``, features ``[N, F]``, simple ``[N, K]``.

        Returns the centre ``[N]`` and the logarithms of the bins' shares ``[N, BINS]``.
        """
        # What was never met in training is unknown: its mean is NaN. So is a level far from all that were.
        scaled = (features - self.mean) / self.scale
        known = torch.isfinite(scaled)
        known[:, LEVEL] &= scaled[:, LEVEL].abs() < LEVEL_FAR
        scaled = torch.where(known, scaled.clamp(-CLIPPED, CLIPPED), 0.0)
        parts = [scaled, known.to(scaled.dtype) - 1.0]
        if self.shape.recurrent != "none":
            parts.append(self.memory(steps * self.used)[0][link, at])
        out = self.head(torch.cat(parts, 1))
        gate, shift, bins = out.split([len(SIMPLE), 1, BINS], 1)
        centre = (torch.softmax(gate, 1) * simple).sum(1) + shift[:, 0]
        return centre, torch.log_softmax(bins, 1)

    def served(self) -> Lstm:
        """The net as it is served and stored.

        Raises:
            ValueError: it is no LSTM; others are for comparing only.
        """
        return Lstm({name: one.numpy() for name, one in self.state_dict().items()})


def loss(centre: Tensor, shares: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy with the truth spread over neighbouring bins, and a pull of the centre towards it, ``[N]``."""
    off = truth - centre
    place = (torch.asinh(off / NEAR) / REACH).clamp(-1, 1) * (BINS / 2) + (BINS - 1) / 2
    away = torch.arange(BINS) - place[:, None]
    target = torch.softmax(-0.5 * (away / _SMOOTH_BINS) ** 2, 1)
    return -(target * shares).sum(1) + 0.5 * off.abs()
