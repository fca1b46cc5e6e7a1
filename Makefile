# The four commands: demo, test, check, bench. Each makes .venv if need be.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One more than there are cores: there is always a test that waits.
JOBS ?= $(shell expr $$(nproc) + 1)
# Tests start hundreds of Pythons: without bytecode, each compiles anew all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-stop test check chaos bench docs clean

$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found; name one of at least 3.11: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -e '.[test]'
	@touch $@

demo: $(READY) ## sample clips through all four stages; MODEL=tiny asks no hub, KEEP=1 leaves it up
	@mkdir -p .demo
	@$(BIN)/python -m producer demo $(if $(MODEL),--model $(MODEL)) $(if $(KEEP),--keep)

demo-stop: $(READY) ## end what `make demo KEEP=1` left running
	@$(BIN)/python -m producer demo --stop

PARALLEL := -n $(JOBS) --dist worksteal --ignore=tests/serial
SERIAL := -n 2 --dist worksteal

test: $(READY) ## all tests, or TESTS=…, with real Redis and S3 servers that they start themselves
	@tests/servers || [ -z "$$CI" ]
	@tests/node-packages || [ -z "$$CI" ]
	@tests/torchaudio || [ -z "$$CI" ]
ifneq ($(findstring tests/serial,$(TESTS)),)
	$(BIN)/python -m pytest $(SERIAL) $(TESTS)
else
	$(BIN)/python -m pytest $(PARALLEL) $(TESTS)
	$(if $(TESTS),,$(BIN)/python -m pytest $(SERIAL) tests/serial)
endif

check: $(READY) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: $(READY) ## break everything for SECONDS=60, as drawn from SEED=1, around WORKERS=4
	$(BIN)/python -m tests.chaos run --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1) \
		--workers $(or $(WORKERS),4)

# The reference brings a hundred packages: they stay out of .venv.
.venv-reference/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-reference
	.venv-reference/bin/python -m pip install --quiet --disable-pip-version-check -e '.[reference]'
	@touch $@

bench: $(READY) .venv-reference/.ready ## the engine against the reference, side by side; BENCH=--quick for a short check
	$(BIN)/python -m bench $(BENCH)

docs: $(READY) ## what is generated: settings, metrics, the figures of the bench
	$(BIN)/python -m docs.generate

clean:
	rm -rf $(VENV) .demo
