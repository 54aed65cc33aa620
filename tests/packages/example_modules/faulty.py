"""Factories and modules that go wrong, each in its own way."""

import sys

import torch
from torch import nn

from example_modules import Forecaster

answer = 42


def raises():
    raise ValueError("no such corpus\nand more of that")


def exits():
    sys.exit(3)


def interrupts():
    raise GeneratorExit


def nothing():
    return None


def no_lstm():
    return nn.Linear(3, 2)


_only = Forecaster()


def always_the_same():
    return _only


class Faulty(Forecaster):
    """A forecaster whose forward does what `how` says."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.calls = 0

    def forward(self, inputs):
        output = super().forward(inputs)
        self.calls += 1
        return getattr(self, self.how)(output)

    def raises(self, output):
        return output @ self.head.bias.new_zeros(3)

    def exits(self, _):
        sys.exit("bye")

    def tuple(self, output):
        return output, output

    def whole_numbers(self, output):
        return output.argmax(dim=-1)

    def flat(self, output):
        return output.flatten()

    def squeezed(self, output):
        return output[:, -1].squeeze(0)

    def transposed(self, output):
        return output.transpose(0, 1)

    def nan(self, output):
        return output / 0 * 0

    def random(self, output):
        return output + torch.rand(())

    def remembers(self, output):
        return output + self.calls

    def mixes_rows(self, output):
        return output + output.mean(dim=0, keepdim=True)

    def refuses_long(self, output):
        if output.shape[1] > 40:
            raise IndexError("index out of range in self")
        return output

    def infinite_when_long(self, output):
        return output / 0 if output.shape[1] > 40 else output

    def other_shape_when_long(self, output):
        return output[:, 1:] if output.shape[1] > 40 else output

    def exits_when_long(self, output):
        return sys.exit(1) if output.shape[1] > 40 else output


class NeverCalled(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4)

    def forward(self, inputs):
        return inputs[..., :2]


class TimeFirst(nn.Module):
    """The mistake that most people make once: batch_first is missing."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 2)

    def forward(self, inputs):
        return self.lstm(inputs)[0]


class Sometimes(nn.Module):
    """Runs its second LSTM over long sequences only, and a third with another batch."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 2, batch_first=True)
        self.long = nn.LSTM(3, 2, batch_first=True)
        self.folded = nn.LSTM(1, 2, batch_first=True)

    def forward(self, inputs):
        output, _ = self.lstm(inputs)
        if inputs.shape[1] > 40:
            output = output + self.long(inputs)[0]
        folded, _ = self.folded(inputs.transpose(1, 2).flatten(0, 1)[..., None])
        return output + folded.unflatten(0, (len(inputs), -1)).mean(dim=1)
