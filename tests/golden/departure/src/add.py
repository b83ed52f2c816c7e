from pathlib import Path

rows = Path("data/loans.csv").read_text().split()[1:]
Path("out/sum.txt").write_text(f"{sum(map(int, rows))}\n")
