"""Data sets as corpora: where they lie, how they are read and traced."""
