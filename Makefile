# Python 3.11 and make are all that is needed; everything else goes into .venv, pinned by constraints.txt.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_ALL := $(VENV)/.installed-all
INSTALLED_DOCS := $(VENV)/.installed-docs

.PHONY: install install-all run test test-inspector test-package test-keras test-random test-planted test-examples test-all check format \
	docs notebooks bench bench-peers claims train clean

# silero-vad brings a real checkpoint for the tests; what it takes to run it is not needed, hence --no-deps
install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cli,onnx,plot,progress,zarr,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps silero-vad
	touch $(INSTALLED)

# every extra: what `make install` has, and the heavy ones
install-all: $(INSTALLED_ALL)

$(INSTALLED_ALL): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	touch $(INSTALLED_ALL)

# what builds the site and runs the notebooks
$(INSTALLED_DOCS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $(INSTALLED_DOCS)

run: install
	$(BIN)/gatescope serve

test: install
	$(BIN)/pytest --numprocesses 2 --dist loadfile -m "not inspector and not packaging and not keras and not examples"

# every view of the inspector in a browser; `make test` has the page that holds them (tests/e2e/test_inspector.py)
test-inspector: install
	$(BIN)/pytest --numprocesses 2 --dist loadfile -m inspector

# build the wheel, install it, and use it without what it must not need
test-package: install
	$(BIN)/pytest -m packaging

# all cases of the tests that have them by the hundred: random modules, changed bytes; `make test` runs some of each
test-random: install
	TEST_RANDOM=1 $(BIN)/pytest --numprocesses 2 -m random

# a hundred networks of each kind that a report must name, or find nothing in; half an hour, so no part of test-all
test-planted: install
	TEST_PLANTED=1 $(BIN)/pytest --numprocesses 2 tests/reporting/test_planted.py

# imports of Keras files beside Keras itself, on its torch backend, which is installed for this alone
test-keras: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt keras h5py
	KERAS_BACKEND=torch $(BIN)/pytest -m keras

# the notebooks of examples/, each in a kernel of its own; small runs of studies/ and benchmarks/
test-examples: $(INSTALLED_DOCS)
	$(BIN)/pytest --numprocesses 2 -m examples

test-all: test test-inspector test-package test-keras test-random test-examples

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# the site, in site/; a link that leads nowhere, or a page that the navigation lacks, fails
docs: $(INSTALLED_DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# run the notebooks and keep what they show
notebooks: $(INSTALLED_DOCS)
	$(BIN)/python -m examples.execute

# every table; compare, device, hostile and overload are commands of the same module (docs/performance.md)
bench: install
	$(BIN)/python -m benchmarks

# beside other servers, each installed into an environment of its own below .peers: some 2 GB, and a quarter of an hour
bench-peers: install
	$(BIN)/python -m benchmarks peers

# the trainings, timings, plots and tables of docs/claims.md: twenty minutes of CPU time on one core; CLAIMS names single parts
claims: install
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.claims $(CLAIMS)

# make train MODEL=river: train one of the shipped models again, from the data that its card names
train: install
	$(if $(wildcard models/$(MODEL)/train.py),,$(error MODEL names a folder of models that has a train.py: make train MODEL=river))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cli,train]'
	$(BIN)/python -m models.$(MODEL).train

# the studies of docs/findings, from data to figures: make studies DURANCE=daily.csv SHAKESPEARE=input.txt
.PHONY: studies
studies: install
	$(BIN)/python -m studies.counting
	$(if $(DURANCE),$(BIN)/python -m studies.snow --data $(DURANCE),@echo "snow is skipped: DURANCE must name its table (docs/findings/snow.md)")
	$(if $(SHAKESPEARE),$(BIN)/python -m studies.grammar --data $(SHAKESPEARE),@echo "grammar is skipped: SHAKESPEARE must name its text (docs/findings/grammar.md)")

clean:
	rm -rf $(VENV) .peers site examples/work .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
