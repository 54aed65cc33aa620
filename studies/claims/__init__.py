"""Two claims about the LSTM, measured: `docs/claims.md` says what came out, `make claims` repeats it."""
