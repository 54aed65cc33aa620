"""Keras files: `.keras` and `.h5` of whole models, read without Keras and without running anything in them."""
