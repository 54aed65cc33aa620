"""The HTTP API: the only code that knows the web framework."""
