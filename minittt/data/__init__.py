"""From conversations to batches: the vocabulary, records as token sequences, token files, packed rows.

What a corpus says and how it sounds is not decided here (see `world`), nor what is masked or weighed (see `objective.py`).
"""
