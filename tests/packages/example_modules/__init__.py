"""Modules as people write them, made by factories that a manifest may name."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Forecaster(nn.Module):
    """An LSTM and a linear layer, with the dropout that people put between."""

    def __init__(self, features=3, hidden=4, outputs=2, layers=2):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, layers, batch_first=True, dropout=0.5)
        self.norm = nn.BatchNorm1d(hidden)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, inputs):
        output, _ = self.lstm(inputs)
        return self.head(self.dropout(self.norm(output.transpose(1, 2)).transpose(1, 2)))


class EncoderDecoder(nn.Module):
    """Reads the past, then writes `steps` steps one by one, each fed with the one before."""

    def __init__(self, features=3, hidden=4, steps=5):
        super().__init__()
        self.encoder = nn.LSTM(features, hidden, batch_first=True)
        self.decoder = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)
        self.steps = steps

    def forward(self, inputs):
        _, state = self.encoder(inputs)
        value, written = inputs[:, -1:, :1], []
        for _ in range(self.steps):
            output, state = self.decoder(value, state)
            value = self.head(output)
            written.append(value)
        return torch.cat(written, dim=1)


class ConvAttention(nn.Module):
    """A strided convolution, an LSTM of both directions over half as many steps, attention, a class."""

    def __init__(self, features=3, hidden=4, labels=3):
        super().__init__()
        self.conv = nn.Conv1d(features, 6, kernel_size=3, stride=2, padding=1)
        self.lstm = nn.LSTM(6, hidden, bidirectional=True)
        self.attention = nn.Linear(2 * hidden, 1)
        self.head = nn.Linear(2 * hidden, labels)

    def forward(self, x):
        x = self.conv(x.transpose(1, 2)).relu()  # (batch, channel, time)
        output, _ = self.lstm(x.permute(2, 0, 1))
        weights = self.attention(output).softmax(dim=0)
        return self.head((weights * output).sum(dim=0))


class Tagger(nn.Module):
    """Tokens, packed as they come, into one LSTM behind another; the embedding is tied to the head."""

    def __init__(self, vocabulary=5, hidden=4):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.below = nn.LSTM(hidden, hidden, bidirectional=True, batch_first=True)
        self.above = nn.LSTM(2 * hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens, sequence_lengths):
        packed = pack_padded_sequence(self.embedding(tokens), sequence_lengths, batch_first=True, enforce_sorted=False)
        packed, _ = self.below(packed)
        output, _ = pad_packed_sequence(self.above(packed)[0], batch_first=True)
        return self.head(output)


class Stateful(nn.Module):
    """Begins where it has learnt to begin, or where it is told to."""

    def __init__(self, features=3, hidden=4):
        super().__init__()
        self.h0, self.c0 = (nn.Parameter(torch.zeros(2, 1, hidden)) for _ in "hc")
        self.lstm = nn.LSTM(features, hidden, 2)
        self.head = nn.Linear(hidden, 2)

    def forward(self, inputs, initial_state=None):
        learnt = tuple(value.expand(-1, len(inputs), -1) for value in (self.h0, self.c0))
        _, (h, _) = self.lstm(input=inputs.transpose(0, 1), hx=learnt if initial_state is None else initial_state)
        inputs.zero_()  # people do such things; a trace must not see it
        return self.head(h[-1])


class Siamese(nn.Module):
    """The same LSTM over two halves of the features, each from zeros."""

    def __init__(self, features=4, hidden=4):
        super().__init__()
        self.lstm = nn.LSTM(features // 2, hidden, batch_first=True)

    def forward(self, inputs):
        (_, (left, _)), (_, (right, _)) = (self.lstm(half) for half in inputs.chunk(2, dim=-1))
        return torch.cosine_similarity(left[0], right[0])[:, None]


class Chunked(nn.Module):
    """Reads in chunks of ten steps, the state carried."""

    def __init__(self, features=3, hidden=4):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, 2, batch_first=True)
        self.head = nn.Linear(hidden, 2)

    def forward(self, inputs):
        state, outputs = None, []
        for chunk in inputs.split(10, dim=1):
            output, state = self.lstm(chunk, state)
            outputs.append(output)
        return self.head(torch.cat(outputs, dim=1))


class RowByRow(nn.Module):
    """Without a batch: each row goes through the LSTM alone."""

    def __init__(self, features=3, hidden=4):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, proj_size=2)

    def forward(self, inputs):
        return torch.stack([self.lstm(row)[0] for row in inputs])


class Alone(nn.Module):
    """No task, no head: a tuple, as `nn.LSTM` gives it."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.unused = nn.LSTM(3, 5)

    def forward(self, inputs):
        return self.lstm(inputs)


def plain_lstm():
    """A module that is an LSTM itself."""
    return nn.LSTM(3, 4, 2, batch_first=True)


def forecaster(**arguments):
    """A factory that is a function, not a class."""
    return Forecaster(**arguments)
