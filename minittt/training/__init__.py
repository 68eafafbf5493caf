"""Training talkers and codecs: the trainer, its loader, optimiser, checkpoints, several processes, LLMs in and out.

The loss is not here (see `objective.py`), nor what a finished talker is measured by (see `evaluation`).
"""
