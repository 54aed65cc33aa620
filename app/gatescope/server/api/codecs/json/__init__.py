"""The wire format JSON: read by `parsing` and `inputs`, written by `writing`."""
