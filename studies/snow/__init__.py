"""Snow in the cell states of an LSTM: `docs/findings/snow.md` says what came out."""
