"""Foretell how far diabetes has progressed after a year."""
