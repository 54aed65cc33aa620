"""Answering queries in time, without a web framework."""
