"""What a reader sees and does: notebooks in JupyterLab, in a real browser."""
