"""Parallel deep learning that you can run, see and check."""
