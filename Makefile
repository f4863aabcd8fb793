# Everything a newcomer needs: `make demo` and `make test` set up a .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed

.DEFAULT_GOAL := help
PYTEST := -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
.PHONY: help demo test coverage lint format proto docs benchmarks lock clean prerequisites

help:  ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(READY)  ## Build the demo shop, run the night over it, show one home page
	@$(BIN)/recsys demo

# The processes of the tests use all cores; threads of PyTorch and of numpy wait for each other where a core is busy.
test coverage: export OMP_NUM_THREADS := 1

# Tests start hundreds of processes, each of which would compile all modules anew.
test coverage: export PYTHONDONTWRITEBYTECODE :=

test: lint  ## Run every test, after the linters
	@$(BIN)/python $(PYTEST)

# Counts what the tests run in processes of their own too, but what Spark's Python workers run only in part: Spark kills
# them. The report comes even where a test fails.
coverage: $(READY)  ## Say by folder how much of the code the tests run; pages in build/coverage/html
	@rm -rf build/coverage
	@$(BIN)/coverage run $(PYTEST); failed=$$?; $(BIN)/coverage combine --quiet && $(BIN)/coverage html --quiet; \
		for folder in $$(find cli console demo_shop jobs recsys serving workbench -name '*.py' | sed 's|/[^/]*$$||' | sort -u); do \
			total=$$($(BIN)/coverage report --include="$$folder/*" --format=total 2>/dev/null) && \
				printf '%4s %% %s\n' "$$total" "$$folder"; \
		done; \
		printf '%4s %% in all: build/coverage/html/index.html\n' "$$($(BIN)/coverage report --format=total)"; exit $$failed

lint: $(READY)  ## Check format, rules and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(READY)  ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

proto: $(READY)  ## Make the Python stubs of proto/ again
	@$(BIN)/python -m grpc_tools.protoc -I proto --python_out=proto --pyi_out=proto --grpc_python_out=proto \
		proto/recommendations/v1/recommendations.proto proto/recommendations/v1/admin.proto

screenshots: $(READY)  ## Make the pictures of the console in docs/ again, from the demo shop; needs chromium
	@PYTHONPATH=. $(BIN)/python docs/screenshots.py

docs: $(READY)  ## Build the site of the documentation, build/site/index.html
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo build/site/index.html

benchmarks: $(READY)  ## Print every headline figure beside its peer; takes a while
	@for benchmark in similarities scoring night photos quality assignment experiments exposures serving; do $(BIN)/python -m benchmarks.$$benchmark || exit 1; done

# pip's report of what it would install, with the hash of each file; of this machine's system and Python.
lock: $(READY)  ## Write requirements with the hashes of all packages: of the project, and of the service's image
	@mkdir -p build
	@$(BIN)/python deploy/lock.py --constraint constraints.txt . > build/requirements.lock
	@$(BIN)/python deploy/lock.py --constraint constraints.txt --requirement deploy/requirements.txt > deploy/requirements.lock
	@echo "build/requirements.lock, deploy/requirements.lock: pip install --require-hashes --requirement FILE"

clean:  ## Remove what was built; keeps var/
	@rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(READY): pyproject.toml constraints.txt | prerequisites
	@echo "Setting up .venv (once, some minutes) ..."
	@$(PYTHON) -m venv .venv || { echo "error: no venv module: sudo apt-get install python3-venv"; exit 1; }
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

prerequisites:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "error: no $(PYTHON) found, needs 3.11 or later: sudo apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $$($(PYTHON) --version) found, needs 3.11 or later: sudo apt-get install python3.11 python3.11-venv," \
		"then make PYTHON=python3.11"; exit 1; }
	@java=$${JAVA_HOME:+$$JAVA_HOME/bin/}java; command -v "$$java" >/dev/null || \
		{ echo "error: no Java found, needs 17 or later: sudo apt-get install openjdk-17-jre-headless"; exit 1; }
	@java=$${JAVA_HOME:+$$JAVA_HOME/bin/}java; \
		version=$$("$$java" -version 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p' | head -n 1); \
		[ "$${version:-0}" -ge 17 ] || \
		{ echo "error: Java $${version:-?} found, needs 17 or later: sudo apt-get install openjdk-17-jre-headless"; exit 1; }
