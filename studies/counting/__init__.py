"""Counting by LSTM and GRU: `docs/findings/counting.md` says what came out."""
