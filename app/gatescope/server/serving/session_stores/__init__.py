"""Where the states of sessions are kept."""
