.PHONY: help demo test lint crash crash-full bench bench-scale bench-serving bench-formats clean

help:  ## List what make can do
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

demo:  ## Train, judge and serve a model in a temporary folder; KEEP=1 leaves it running
	@bash .ci/install
	@bash scripts/demo

test:  ## Check style, types and layers, and run every test
	@bash .ci/run

lint:  ## Check style, types and layers
	@bash .ci/run lint

crash:  ## Apply with a fault at each of a sample of calls (3 minutes; needs strace)
	@bash .ci/install dev
	@.venv/bin/python tests/crash/sweep.py --points 64 --report build/crash.md $(OPTIONS)

crash-full:  ## Apply with a fault at every call that changes something (an hour)
	@bash .ci/install dev
	@.venv/bin/python tests/crash/sweep.py --report build/crash.md $(OPTIONS)

bench:  ## Measure mlspec beside DVC
	@bash .ci/install
	@.venv/bin/python -m benchmarks.run

bench-scale:  ## Measure mlspec on up to 10,000 models, beside Git and DVC (minutes)
	@bash .ci/install dev
	@.venv/bin/python -m benchmarks.scale $(OPTIONS)

bench-serving:  ## Measure what a prediction over HTTP costs (minutes; OPTIONS=--with-peers)
	@bash .ci/install dev
	@.venv/bin/python -m benchmarks.serving $(OPTIONS)

bench-formats:  ## Compare the answers of services with those of frameworks, for each format
	@bash .ci/install dev
	@.venv/bin/python -m benchmarks.formats

clean:  ## Remove what these commands made
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
