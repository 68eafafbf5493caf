"""Training talkers and codecs: the trainer, its loader, optimiser, checkpoints, and several processes.

The loss is not here (see `objective.py`), nor what a finished talker is measured by (see `evaluation`).
"""
