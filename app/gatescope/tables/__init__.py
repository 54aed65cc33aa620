"""Tables as sequences: files and data frames with names, times and ids -> what a model is asked with, and back."""
