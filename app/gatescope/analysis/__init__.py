"""Analyses: questions about a recurrent network, each answered by one file of this package."""
