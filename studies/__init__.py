"""Studies: experiments that a command repeats from data to the figures of a page."""
