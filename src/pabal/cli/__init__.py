"""The command line: one file per command; `compose.py` alone knows the concrete adapters."""
