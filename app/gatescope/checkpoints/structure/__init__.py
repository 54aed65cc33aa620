"""Which modules a checkpoint's weights belong to, and what they mean together."""
