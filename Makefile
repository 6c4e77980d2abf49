# `make demo` and `make test` are all that a new machine with Python 3.11+ needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := out/demo
# Test files at a time: much of what they do is waiting for processes to start.
TEST_WORKERS ?= 3
TINY := out/tiny

.PHONY: help demo test check tools format test-slow chaos bench train-tiny clean

help:
	@echo "make demo       install, render examples/shots.jsonl into $(DEMO), check the videos"
	@echo "make test       install, static checks, tests"
	@echo "make check      install, static checks"
	@echo "make tools      install, fetch the programs of Debian that tests use"
	@echo "make format     let ruff format and mend the code"
	@echo "make test-slow  install, the tests that take minutes"
	@echo "make chaos      install, faults at every moment: an hour"
	@echo "make bench      install, measure against plain diffusers"
	@echo "make train-tiny install, train the built-in checkpoint anew into $(TINY) (hours)"
	@echo "make clean      remove the environment, caches and $(DEMO)"

demo: $(INSTALLED)
	$(BIN)/ltx-ray render examples/shots.jsonl --output $(DEMO) --config examples/demo.toml --decoders 2
	@echo "The videos, held against what was asked:"
	@$(BIN)/python examples/check_videos.py examples/shots.jsonl $(DEMO) examples/demo.toml
	@echo "Look at them at once:"
	@$(BIN)/python examples/show_videos.py examples/shots.jsonl $(DEMO) examples/demo.toml

test: check tools
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

tools: $(INSTALLED)
	@tests/install_tools.sh $(VENV)

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

chaos: $(INSTALLED)
	$(BIN)/python -m pytest -m chaos

bench: $(INSTALLED)
	$(BIN)/python benchmarks/tiles.py
	$(BIN)/python benchmarks/decoder_memory.py
	$(BIN)/python benchmarks/audio.py
	$(BIN)/python benchmarks/long_video.py
	$(BIN)/python benchmarks/render.py
	$(BIN)/python benchmarks/memory.py media
	$(BIN)/python benchmarks/memory.py rows
	$(BIN)/python benchmarks/farm.py busy
	$(BIN)/python benchmarks/farm.py calls

train-tiny: $(INSTALLED)
	$(BIN)/python -m ltx_ray.training.tiny $(TINY)
	@echo "Shipped as ltx_ray/checkpoints/tiny: the contents of $(TINY)/tiny"

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed anew only when what is to be installed has changed.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, got " + \
		sys.version.split()[0] + ": name one, as in make PYTHON=python3.12 demo")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	@touch $@
