"""What the project exists for: every gate and state of any `torch.nn.LSTM`, in pure torch."""

from app.lstm import memory
from app.lstm.selection import SIGNALS, Selection
from app.lstm.spec import DIRECTIONS, LSTMSpec
from app.lstm.state import State
from app.lstm.trace import Trace, trace

memory.keep_freed()

__all__ = ["DIRECTIONS", "SIGNALS", "LSTMSpec", "Selection", "State", "Trace", "trace"]
