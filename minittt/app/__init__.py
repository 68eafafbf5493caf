"""What people use: the command line, the reply page, pictures, streaming to a player, and the check of an installation.

Nothing below this room depends on it, and no part of the method lives here.
"""
