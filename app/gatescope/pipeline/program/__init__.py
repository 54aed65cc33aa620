"""Models that run as a whole, with what their recurrent modules were called with: `Program` and its pipeline."""
