"""These tests run other frameworks' own LSTMs; `python -m pytest tests/frameworks` collects them, and nothing else."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
