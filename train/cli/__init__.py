"""The command line ``slidescreen-train``."""
