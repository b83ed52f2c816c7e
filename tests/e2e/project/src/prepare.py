"""Drops rows that do not say how the loan ended."""

from pathlib import Path

from journal import note

header, *rows = Path("data/loans.csv").read_text().splitlines()
kept = [row for row in rows if row.split(",")[2]]
Path("build/rows.csv").write_text("\n".join([header, *kept, ""]))
note("prepare")
