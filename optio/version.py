"""The version, in a module of its own so that reading it costs no metadata scan."""

__version__ = "0.1.0"
