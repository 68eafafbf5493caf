# Two commands from a fresh clone:  make demo   make test
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TORCH ?= torch==2.13.0

.PHONY: wheel-check demo docs test test-page lint format train ablations results mutants lab notebooks notebooks-write doctor clean

demo: $(VENV)/.installed
	$(BIN)/minittt talk data_samples/wav/question_*.wav data_samples/people/person_*.wav -o out --page out/reply.html

# the two pages to hear in one click, for a static site: docs/index.html links them
docs: $(VENV)/.installed
	$(BIN)/minittt talk data_samples/wav/question_1.wav --talker reference --block 16 --compare 1,4,16 -o out --page docs/voices.html
	$(BIN)/minittt talk data_samples/wav/question_2.wav data_samples/wav/question_4.wav --talker reference -o out --page docs/reply.html

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto

# the page of `minittt serve`, in a browser that takes a file for its microphone; skipped where there is no Chromium
test-page: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow tests/app/test_serve.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: $(VENV)/.installed
	$(BIN)/minittt train -o runs/talker

# the missing runs of the grid: eight presets, five seeds, about six minutes of one core per run; JOBS=2 make ablations
JOBS ?= 1
ablations: $(VENV)/.installed
	$(BIN)/python benchmarks/ablations.py --jobs $(JOBS)
	$(BIN)/python benchmarks/results.py

results: $(VENV)/.installed
	$(BIN)/python benchmarks/results.py

mutants: $(VENV)/.dev
	$(BIN)/python -m tests.mutants.run

# JupyterLab on the notebooks; cells run in this environment, even if the user has installed a kernel of the same name
lab: $(VENV)/.notebooks
	JUPYTER_PREFER_ENV_PATH=1 $(BIN)/python -m jupyterlab --notebook-dir=notebooks $(LAB)

# runs all cells of all notebooks, writes nothing; MINITTT_FAST=1 make notebooks: with short training runs
notebooks: $(VENV)/.notebooks
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=1800 notebooks/*.ipynb

notebooks-write: $(VENV)/.notebooks
	$(BIN)/python notebooks/build.py $(NAMES)

doctor: $(VENV)/.installed
	$(BIN)/minittt doctor

# what a user without a clone gets: a wheel in an empty environment, used in an empty folder
wheel-check: $(VENV)/.dev
	bash benchmarks/wheel_check.sh $(BIN)/python "$(PYTHON)" "$(TORCH)"

clean:
	rm -rf $(VENV) out dist build .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first, in exactly the tested version. On Linux, pip picks its CUDA build (gigabytes), unless a build without CUDA is
# already in $(VENV): create the environment, install it with the command from PyTorch's installation page, then make demo.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) "$(TORCH)"
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) -e ".[data,dev]"
	touch $@

$(VENV)/.notebooks: $(VENV)/.dev
	$(PIP) -e ".[notebooks]"
	touch $@
