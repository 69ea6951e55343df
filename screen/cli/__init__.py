"""The command line ``slidescreen``."""
