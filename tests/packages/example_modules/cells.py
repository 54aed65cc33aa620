"""Modules that call cells step by step, alone and beside recurrent modules."""

import torch
from torch import nn


class Loop(nn.Module):
    """One cell in a loop over time, a prediction per step; each step goes into the cell as people like to write it."""

    def __init__(self, cell="LSTMCell", features=3, hidden=4, **arguments):
        super().__init__()
        self.cell = getattr(nn, cell)(features, hidden, **arguments)
        self.head = nn.Linear(hidden, 2)

    def forward(self, inputs):
        state, outputs = None, []
        for step in inputs.unbind(1):
            state = self.cell(step, state) if state is None else self.cell(input=step, hx=state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return self.head(torch.stack(outputs, dim=1))


class BothWays(nn.Module):
    """Two cells at each step: one reads forwards, the other backwards."""

    def __init__(self, features=3, hidden=4):
        super().__init__()
        self.forwards = nn.GRUCell(features, hidden)
        self.backwards = nn.GRUCell(features, hidden)
        self.head = nn.Linear(2 * hidden, 2)

    def forward(self, inputs):
        steps = inputs.shape[1]
        left = right = inputs.new_zeros(len(inputs), self.forwards.hidden_size)
        lefts, rights = [], [None] * steps
        for index in range(steps):
            left = self.forwards(inputs[:, index], left)
            right = self.backwards(inputs[:, steps - 1 - index], right)
            lefts.append(left)
            rights[steps - 1 - index] = right
        return self.head(torch.cat((torch.stack(lefts, dim=1), torch.stack(rights, dim=1)), dim=-1))


class Mixed(nn.Module):
    """A GRU, an RNN with relu, an LSTM, and two cells that write three steps; one more is never called."""

    def __init__(self, features=3, hidden=4, steps=3):
        super().__init__()
        self.unused = nn.RNNCell(1, 1)
        self.gru = nn.GRU(features, hidden, 2, bidirectional=True)
        self.rnn = nn.RNN(2 * hidden, hidden, nonlinearity="relu", batch_first=True)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True, proj_size=2)
        self.cells = nn.ModuleList([nn.LSTMCell(2, hidden, bias=False), nn.RNNCell(hidden, hidden)])
        self.head = nn.Linear(hidden, 1)
        self.steps = steps

    def forward(self, inputs):
        output = self.gru(inputs.transpose(0, 1))[0].transpose(0, 1)
        output, _ = self.lstm(self.rnn(output)[0])
        step, below, above, written = output[:, -1], None, None, []
        for _ in range(self.steps):
            below = self.cells[0](step, below)
            above = self.cells[1](below[0], above)
            written.append(self.head(above))
        return torch.stack(written, dim=1)


class Told(nn.Module):
    """Calls its cell as `how` says; the prediction is the last hidden state."""

    def __init__(self, how, features=3, hidden=4):
        super().__init__()
        self.cell = nn.GRUCell(features, hidden)
        self.head = nn.Linear(hidden, 2)
        self.how = how

    def forward(self, inputs):
        return self.head(getattr(self, self.how)(inputs, inputs.new_zeros(len(inputs), self.cell.hidden_size)))

    def masked(self, inputs, state):
        for step in inputs.unbind(1):
            state = torch.where(step[:, :1] > 0, self.cell(step, state), state)
        return state

    def masked_in_padding(self, inputs, state):
        for step in inputs.unbind(1):
            valid = torch.ones(len(inputs), 1)
            state = valid * self.cell(step, state) + (1 - valid) * state
        return state

    def dropped(self, inputs, state):
        for step in inputs.unbind(1):
            state = nn.functional.dropout(self.cell(step, state), training=self.training)
        return state

    def scaled(self, inputs, state):
        for step in inputs.unbind(1):
            state = 0.9 * self.cell(step, state)
        return state

    def twice_a_step(self, inputs, state):
        other = state
        for step in inputs.unbind(1):
            state, other = self.cell(step, state), self.cell(-step, other)
        return state + other

    def fewer_rows(self, inputs, state):
        for index, step in enumerate(inputs.unbind(1)):
            rows = len(inputs) if index < 3 else 1
            state = torch.cat((self.cell(step[:rows], state[:rows]), state[rows:]))
        return state

    def own_batch(self, inputs, _):
        state = None
        for step in torch.cat((inputs, -inputs)).unbind(1):
            state = self.cell(step, state)
        return state[: len(inputs)]

    def row_by_row(self, inputs, _):
        rows = []
        for row in inputs:
            state = None
            for step in row:  # (feature,), without a batch
                state = self.cell(step, state)
            rows.append(state)
        return torch.stack(rows)

    def without_gradients(self, inputs, state):
        with torch.no_grad():
            for step in inputs.unbind(1):
                state = self.cell(step, state)
        return state

    def in_inference_mode(self, inputs, state):
        with torch.inference_mode():
            for step in inputs.unbind(1):
                state = self.cell(step, state)
        return state.clone()

    def in_place(self, inputs, state):
        for step in inputs.unbind(1):
            state.copy_(self.cell(step, state))
        return state

    def never(self, _, state):
        return state


class CellAlone(nn.Module):
    """A cell over one step of each sequence, the last."""

    def __init__(self):
        super().__init__()
        self.cell = nn.RNNCell(3, 4)

    def forward(self, inputs):
        return self.cell(inputs[:, -1])


class NormedLoop(Loop):
    """Its recurrent weight is computed from two others."""

    def __init__(self):
        super().__init__("GRUCell")
        nn.utils.parametrizations.weight_norm(self.cell, "weight_hh")
