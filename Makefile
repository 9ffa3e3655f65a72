# Two commands do everything on a fresh machine with Python 3.11: `make quickstart`, `make test`.
PYTHON ?= python3.11
DATA ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: bench-report bench-search help install quickstart test test-all test-lowest test-wheel check docs format bench bench-data bench-latency bench-spaces

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "%-12s %s\n", $$1, $$2}'

install: $(INSTALLED) ## create .venv and install the package with the pinned versions

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,images,openvino]'
	touch $@

quickstart: install ## install, then train, profile, search, export and verify on digits
	$(BIN)/nassearch quickstart

test: install ## install, then run the quick tests
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test-all: install ## every test, the slow ones too
	$(BIN)/pytest

test-lowest: ## the quick tests with the lowest versions that pyproject.toml allows
	rm -rf build/lowest && $(PYTHON) -m venv build/lowest && build/lowest/bin/pip install --quiet --disable-pip-version-check uv
	build/lowest/bin/uv pip compile --quiet --resolution lowest-direct --python-version 3.11 \
	  --extra images --extra openvino pyproject.toml -o build/lowest/versions.txt
	build/lowest/bin/uv pip install --quiet --python build/lowest/bin/python -c build/lowest/versions.txt -e '.[dev,images,openvino]'
	build/lowest/bin/pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test-wheel: ## the built wheel in an environment of its own, away from the checkout: quickstart and a search
	rm -rf build/wheel && mkdir -p build/wheel
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/pip wheel --quiet --disable-pip-version-check --no-deps -w build/wheel .
	build/wheel/venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt build/wheel/*.whl
	work=$$(mktemp -d) && cd "$$work" && $(CURDIR)/build/wheel/venv/bin/nassearch quickstart \
	  && $(CURDIR)/build/wheel/venv/bin/nassearch search --device a100 --budget 5ms --trials 10 \
	  && rm -rf "$$work"

check: install ## ruff, ruff format, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install ## build the site from docs/; warnings are errors, and it loads nothing from elsewhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	$(BIN)/python docs/site_check.py site

format: install ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## training: a sandwich step's speed and memory; supernet against extracted network
	$(BIN)/python experiments/training-speed/bench.py
	$(BIN)/python experiments/elasticity/bench.py

bench-data: install ## data: every augmentation and the decoding of small files, per image
	$(BIN)/python experiments/augmentation/bench.py

bench-spaces: install ## spaces: loading, sampling, generated ones, merged against branched kernels
	$(BIN)/python experiments/spaces/bench.py

bench-search: install ## search: evaluations needed, overhead, three settings at once (hours from nothing)
	for part in enumerable large overhead settings report; do \
	  $(BIN)/python experiments/search-efficiency/bench.py $$part || exit 1; done
	for part in search report; do \
	  $(BIN)/python experiments/search-efficiency/noise.py $$part || exit 1; done

bench-report: install ## report: opening and answering over 2,000 candidates (needs Chromium)
	$(BIN)/python experiments/report/bench.py

bench-latency: install ## latency: fits, imports, speed, and this machine (needs DATA=..., a quiet machine)
	for part in networks transfer ablation report curves gpunets published operators note10 speed memory tables device plots; do \
	  $(BIN)/python experiments/latency-accuracy/bench.py $$part $(if $(DATA),--data $(DATA)) || exit 1; done
