"""States of a text in a character model: `docs/findings/grammar.md` says what came out."""
