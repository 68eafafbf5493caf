"""The toy world that the shipped talker lives in: what is said, by which voice, how it sounds, and your own recordings.

Nothing here knows about models or training; what it makes is a corpus (see `data`).
"""
