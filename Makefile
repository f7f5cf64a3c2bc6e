# make demo | test | check | bench: each makes .venv and installs what it needs, once.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench clean

demo: .venv/.runs
	$(BIN)/sightline demo -o demo-report

test: .venv/.develops
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/.develops
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

bench: .venv/.develops
	$(BIN)/python -m pytest benchmarks -o python_files='bench_*.py' -o pythonpath=benchmarks --benchmark-enable -q -s

clean:
	rm -rf .venv .pytest_cache .ruff_cache .benchmarks .hypothesis demo-report

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.runs: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,torch]'
	@touch $@

.venv/.develops: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,torch,peers,dev]'
	@touch .venv/.runs $@
