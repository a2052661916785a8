# make demo   watch a running guest move between two emulated sites (root; Debian 12 or newer)
# make test   everything CI checks: set-up, lint, types, layers, unit and end-to-end tests
# make bench  NovaCron next to QEMU's own migration, same guest and line
.PHONY: setup demo test lint bench clean
BIN := .venv/bin

setup:
	@scripts/setup.sh

demo: setup
	@$(BIN)/novacron demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest

bench: setup
	@$(BIN)/novacron bench migration

clean:
	@if [ -x $(BIN)/novacron ] && [ -d /var/lib/novacron-lab/default ]; then $(BIN)/novacron lab down; fi
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
