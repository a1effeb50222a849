# pems-sync. Needs make and Python 3.11 only; everything else comes into .venv, state into var/ (VAR_DIR).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.requirements
ITEMS  ?= 1000
SEED   ?= 1
MINUTES ?= 1
HOURS  ?= 0.333

.DEFAULT_GOAL := help
.PHONY: help venv up demo check test torture bench soak restore-drill requirements clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

up: $(STAMP)  ## run everything in the foreground; knobs: PORT VAR_DIR WRITE_WORKERS PEMS_URL DEMO_PASSWORD … (README)
	@exec $(BIN)/python -I -S deploy/local/tether.py 15 - $$PPID $(BIN)/python -m deploy.local.up

demo: $(STAMP)  ## ITEMS=1000 edits through the whole machine, with scripted trouble, counted on the side of PEMS
	@ITEMS=$(ITEMS) $(BIN)/python -m deploy.demo

check: $(STAMP)  ## lint, format, layers, types, missing migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy .
	$(BIN)/python manage.py makemigrations --check --dry-run

test: check  ## check, then all tests, several at once
	$(BIN)/pytest -n auto --maxprocesses 4 -m "not process"
	$(BIN)/pytest -n 3 --dist loadgroup -m process   # these mostly wait, so that two cores carry three

torture: $(STAMP)  ## SEED=1 MINUTES=1 (or SEEDS=1-40) of everything at once, with faults from the seed
	@exec $(BIN)/python -m tests.torture --seed $(SEED) --minutes $(MINUTES) $(if $(SEEDS),--seeds $(SEEDS))

restore-drill: $(STAMP)  ## lose the database while PEMS moves on, restore it both ways, prove that nothing is written twice
	@$(BIN)/python -m deploy.drill

bench: $(STAMP)  ## measure the figures; writes var/bench.json
	$(BIN)/python -m tests.bench

soak: $(STAMP)  ## HOURS=0.333 at twice the rated load; samples and plot in var/ (PLOT=…)
	@HOURS="$(HOURS)" PLOT="$(PLOT)" $(BIN)/python -m tests.soak

requirements: $(STAMP)  ## pin and hash what requirements/*.in name
	@for name in base dev; do \
	  $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	    --output-file=requirements/$$name.txt requirements/$$name.in || exit 1; \
	done

clean:  ## remove the virtual environment, caches and the default state directory
	@home=$$(cat var/postgres.home 2>/dev/null | tr -d '"'); \
	  case "$$home" in /var/tmp/pems-sync-postgres-* | /tmp/pems-sync-postgres-*) rm -rf "$$home" ;; esac
	rm -rf $(VENV) var .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis htmlcov .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv: $(STAMP)  ## make or refresh the virtual environment

# Made again only when the text of the pinned list changed: the stamp is a copy of it. The old one is thrown away, because
# packages that left the list must not linger.
$(STAMP): requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "No python3 found: install Python 3.11, or say make PYTHON=/path/to/python3.11."; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "pems-sync needs Python 3.11; $(PYTHON) is `$(PYTHON) --version 2>&1`. Say make PYTHON=/path/to/python3.11."; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian: apt install python3.11-venv)."; exit 2; }
	@if cmp -s $< $@; then touch $@; else \
	  echo "Making the virtual environment in $(VENV) (a minute or two, once)"; \
	  rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) \
	    && $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $< && cp $< $@; \
	fi
