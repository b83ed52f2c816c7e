"""Stage `split`: part the dataset into rows to train with and rows to test with."""

from __future__ import annotations

from digits.files import DATASET, TEST, TRAIN, load_params, save
from digits.rows import format_rows, load_rows, split_rows


def main() -> None:
    params = load_params("split")
    train, test = split_rows(load_rows(DATASET), params["test_share"], params["seed"])
    save(TRAIN, format_rows(train))
    save(TEST, format_rows(test))
    print(f"{len(train)} rows to train with, {len(test)} to test with")


if __name__ == "__main__":
    main()
