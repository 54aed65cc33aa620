"""Modules that take a state and give one back, rightly or not."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Stream(nn.Module):
    """A recurrent module and a head, a prediction per step."""

    def __init__(self, kind="LSTM", features=3, hidden=4, outputs=2, layers=2, **arguments):
        super().__init__()
        self.recurrent = getattr(nn, kind)(features, hidden, layers, batch_first=True, **arguments)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, inputs, initial_state=None):
        output, state = self.recurrent(inputs, initial_state)
        return self.give(self.head(output), state)

    def give(self, prediction, state):
        return prediction, state


class DictStream(Stream):
    def give(self, prediction, state):
        return {"final_state": state, "prediction": prediction}


class LastStream(Stream):
    """A prediction per sequence, from its last step."""

    def give(self, prediction, state):
        return prediction[:, -1], state


class TokenStream(nn.Module):
    """Tokens, packed by their lengths."""

    def __init__(self, vocabulary=5, hidden=4, *, packs=True):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary)
        self.packs = packs

    def forward(self, tokens, sequence_lengths, initial_state=None):
        embedded = self.embedding(tokens)
        if not self.packs:
            output, state = self.gru(embedded, initial_state)
            return self.head(output), state
        packed = pack_padded_sequence(embedded, sequence_lengths, batch_first=True, enforce_sorted=False)
        packed, state = self.gru(packed, initial_state)
        return self.head(pad_packed_sequence(packed, batch_first=True)[0]), state


class CellStream(nn.Module):
    """An LSTMCell in a loop, from a state that it has learnt."""

    def __init__(self, features=3, hidden=4):
        super().__init__()
        self.h0, self.c0 = (nn.Parameter(torch.zeros(hidden)) for _ in "hc")
        self.cell = nn.LSTMCell(features, hidden)
        self.head = nn.Linear(hidden, 2)

    def forward(self, inputs, initial_state=None):
        state = initial_state or tuple(value.expand(len(inputs), -1) for value in (self.h0, self.c0))
        outputs = []
        for step in inputs.unbind(1):
            state = self.cell(step, state)
            outputs.append(self.head(state[0]))
        return torch.stack(outputs, dim=1), state


class Wrong(nn.Module):
    """Gives a state back with which it cannot go on, or goes on otherwise, as `how` says."""

    def __init__(self, how, features=3, hidden=4):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.above = nn.LSTM(hidden, hidden, batch_first=True)
        self.conv = nn.Conv1d(features, features, 3, padding=1)
        self.head = nn.Linear(hidden, 2)
        self.how = how

    def forward(self, inputs, initial_state=None):
        return getattr(self, self.how)(inputs, initial_state)

    def old_state(self, inputs, state):
        output, _ = self.lstm(inputs, state)
        return self.head(output), state or tuple(inputs.new_zeros(1, len(inputs), 4) for _ in "hc")

    def only_hidden(self, inputs, state):
        output, (h, _) = self.lstm(inputs, state)
        return self.head(output), h

    def two_layers(self, inputs, _):
        output, below = self.lstm(inputs)
        output, above = self.above(output)
        return self.head(output), (below, above)

    def lost_state(self, inputs, state):
        output, state = self.lstm(inputs, state)
        return self.head(self.above(output)[0]), state

    def lost_state_unseen(self, inputs, state):
        output, state = self.lstm(inputs, state)
        self.above(output)
        return self.head(output), state

    def neighbours(self, inputs, state):
        output, state = self.lstm(self.conv(inputs.transpose(1, 2)).transpose(1, 2), state)
        return self.head(output), state

    def mean(self, inputs, state):
        output, state = self.lstm(inputs, state)
        return self.head(output.mean(dim=1)), state

    def fails_on_one_step(self, inputs, state):
        output, state = self.lstm(inputs, state)
        others = inputs.shape[1] - 1
        return self.head(output) * others / others, state

    def own_steps(self, inputs, state):
        output, state = self.lstm(inputs, state)
        return self.head(output[:, -1:]).expand(-1, 5, -1), state

    def no_state(self, inputs, state):
        return self.head(self.lstm(inputs, state)[0])

    def three(self, inputs, state):
        output, state = self.lstm(inputs, state)
        return self.head(output), state, output

    def infinite(self, inputs, state):
        output, (h, c) = self.lstm(inputs, state)
        return self.head(output), (h, c / 0)
