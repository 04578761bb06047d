# Every habit, one word; `make help` tells them. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
ENGINE = $$($(PY) -c "import pathlib, vizdoom; print(pathlib.Path(vizdoom.__file__).parent / 'vizdoom')")
export MPLBACKEND := Agg

.PHONY: help setup browser play demo test slow coverage bench format lint check picture clean
.DEFAULT_GOAL := test

help:  ## what there is to make
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

setup: $(READY)  ## .venv, with all that is needed

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; give one by 'make PYTHON=python3.11'"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call install,python3-venv)
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@missing=$$(ldd $(ENGINE) | awk '/not found/ {print $$1}'); \
		test -z "$$missing" || $(call install,libstdc++6 zlib1g libgcc-s1)
	@$(PY) -c 'from ctypes.util import find_library as f; raise SystemExit(not (f("EGL") or f("OSMesa")))' \
		|| $(call install,libegl1 libegl-mesa0 libgl1-mesa-dri)
	@touch $@

# Debian packages: installed where we may, else named in one line.
install = { if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get -qq update && apt-get -qq install -y $(1); \
	else echo "error: system packages are missing: please run 'sudo apt-get install $(1)'"; exit 1; fi; }

browser:  ## Chromium, in which the page is tested
	@command -v chromium >/dev/null || $(call install,chromium)

play: $(READY)  ## a page in your browser, on which you walk about in a dream of Doom
	$(PY) -m worldmodels play

demo: $(READY)  ## an agent learns to survive in Doom inside its own dream, then in the real game
	$(PY) -m worldmodels run --env doom --preset tiny --run runs/demo --data data/demo \
		--dream --tau 1.15 --learner ppo --horizon 600 --final-episodes 16

test: $(READY)  ## the tests: twelve minutes on two cores
	$(PY) -m pytest -n 2 --dist loadfile

slow: $(READY)  ## those that take longer: campaigns of damage, the demo
	$(PY) -m pytest -m slow

coverage: $(READY)  ## the tests, and which lines they ran
	$(PY) -m pytest --cov --cov-report=term:skip-covered

bench: $(READY)  ## how fast everything is, beside the obvious code and the limit; half an hour on a quiet machine
	$(PY) -m benchmarks

format: $(READY)  ## the code as ruff would have it
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

lint: $(READY)  ## what ruff and mypy say
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

check: lint test  ## what has to be green before a commit

picture: $(READY)  ## docs/architecture.svg, drawn from the code
	$(PY) docs/architecture.py

clean:  ## what the above made, but for your own runs and data
	rm -rf $(VENV) runs/demo data/demo
