# Two commands matter: `make start` and `make test`. Everything else serves them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 4
# A file's gateways serve all its tests; tests/conftest.py says which files begin.
SPREAD := --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: audit fuzz soak week bench help install install-dev start demo test test-slow test-clients check style types imports lock browser clean

help:
	@echo "make start [ARGS=...]  install what is missing and serve on 127.0.0.1:4141"
	@echo "make demo              the same against the bundled simulator, without a seat"
	@echo "make install           set up .venv only"
	@echo "make test              the whole gate but style"
	@echo "make test-slow         several processes on PostgreSQL and Redis, nginx, kills under load"
	@echo "make test-clients      real programs against the gateway; needs npm, installs what it runs"
	@echo "make soak [SOAK_S=1800] mixed clients and random faults, then every record is counted"
	@echo "make week              a team's week at full size: 50 members, 10 000 requests, two processes"
	@echo "make fuzz [SECONDS=60] fuzz the readers of streams and formats; what is found becomes a test"
	@echo "make audit             known weaknesses, licences and a bill of materials"
	@echo "make bench [QUICK=1]   measure, beside nginx and PEERS=peers.toml"
	@echo "make check             style, types, import contracts and tests"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is older."; \
		  echo "Name another one: make start PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "$(PYTHON) cannot make virtual environments."; \
		  echo "On Debian: apt install python3-venv"; exit 1; }

$(VENV)/.installed: requirements.txt | $(BIN)/python
	@echo "Installing pinned dependencies (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--only-binary :all: -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt | $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--only-binary :all: -r requirements-dev.txt
	@touch $@

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

start: install
	@$(BIN)/python manage.py start $(ARGS)

demo: install
	@$(BIN)/python manage.py demo $(ARGS)

test: install-dev types imports
	$(BIN)/python -m pytest -n $(JOBS) $(SPREAD) -m "not slow and not team" $(ARGS)

# Several processes on PostgreSQL and Redis, faults of processes, nginx, kills under load. Each of these
# tests has gateways and servers of its own: more than two at once only wait for each other.
test-slow: JOBS := 2
test-slow: install-dev
	$(BIN)/python -m pytest -n $(JOBS) $(SPREAD) -m "slow or team" $(ARGS)

# Claude Code, Codex, Gemini CLI, opencode and the libraries, in .venv-clients and node_modules.
test-clients: install-dev
	$(BIN)/python -m pytest tests/clients/real -m real_clients $(ARGS)

check: install-dev style test

style:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install-dev
	$(BIN)/mypy

imports: install-dev
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

SOAK_S ?= 1800
soak: install-dev
	SOAK_S=$(SOAK_S) $(BIN)/python -m pytest tests/soak/test_soak.py $(ARGS)

week: install-dev
	WEEK_REQUESTS=10000 WEEK_MEMBERS=50 $(BIN)/python -m pytest tests/soak/test_week.py $(ARGS)

audit: install-dev
	@$(BIN)/python .ci/audit

# Seconds for each target. A finding is written to tests/fuzz/seeds and ends the run.
SECONDS ?= 60
fuzz: install-dev
	@mkdir -p build; set -e; for target in frames requests answers taps; do \
		echo "fuzzing $$target for $(SECONDS) s"; \
		$(BIN)/python -m tests.fuzz $$target -max_total_time=$(SECONDS) > build/fuzz.log 2>&1 || \
			{ tail -40 build/fuzz.log; exit 1; }; \
		tail -1 build/fuzz.log; \
	done

bench: install
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(PEERS),--peers $(PEERS)) $(ARGS)

# After a change of pyproject.toml: pins with hashes, for every platform, installable by plain pip.
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate --quiet
lock: install-dev
	$(LOCK) -o requirements.txt
	$(LOCK) --extra dev -c requirements.txt -o requirements-dev.txt

clean:
	rm -rf build $(VENV) .venv-clients tests/clients/real/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
