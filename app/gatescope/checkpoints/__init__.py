"""Checkpoints of other people's training scripts, read without running any of their code, and made into models."""
