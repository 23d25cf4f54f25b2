"""The Django app. Every process of ours but the engine and the media children imports it first."""

import os

# Before numpy is loaded. Our matrices are small: OpenBLAS's further threads add nothing and spin beside the work,
# which made the reader of the mark up to 1.8 times slower (`manage.py bench verify`).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
