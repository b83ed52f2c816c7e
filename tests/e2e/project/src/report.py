"""Part of no stage."""

TITLE = "Loans"
