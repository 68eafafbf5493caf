"""minittt: Text-to-Talk (arXiv 2509.20072) as a small, exact, readable reference implementation."""

__version__ = "0.1.0"
