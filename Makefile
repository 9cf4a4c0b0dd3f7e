# Two commands matter: `make demo` and `make test`. Each sets up its own .venv first.
BIN := .venv/bin
TESTBED := PYTHONPATH=deploy/testbed $(BIN)/python -m gpupilot_testbed
ARGS ?=
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test check bench train compare stack stack-down baseline recordings fidelity cluster cluster-light cluster-operator cluster-down model lock schemas crds commands clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Set up, train a policy, compare it with every baseline, write results/<run>/report.html
	@sh scripts/setup.sh && $(BIN)/gpupilot demo $(ARGS)

test: ## Set up and run all tests, warnings as errors
	@sh scripts/setup.sh --dev && $(BIN)/pytest -n 2 --dist loadfile $(ARGS)

check: ## Formatting, lint, types and import directions; what pre-commit and CI run
	@sh scripts/setup.sh --dev && $(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: ## Print the numbers of benchmarks/README.md
	@sh scripts/setup.sh --dev && for f in benchmarks/bench_*.py; do $(BIN)/python $$f || exit 1; done

train: ## Train a policy: make train ARGS="--profile P.yaml --out bundles/mine"
	@sh scripts/setup.sh && $(BIN)/gpupilot train $(ARGS)

compare: ## Compare policies: make compare ARGS="--profile P.yaml --traces t.parquet --out results/mine"
	@sh scripts/setup.sh && $(BIN)/gpupilot compare $(ARGS)

stack: ## Start a real Triton, gateway and Prometheus: make stack ARGS="--flavour cpu --replicas 2"
	@sh scripts/setup.sh && $(BIN)/gpupilot stack up $(ARGS)

stack-down: ## Stop them and remove what they left
	@sh scripts/setup.sh && $(BIN)/gpupilot stack down $(ARGS)

baseline: ## Measure 10, 50 and 100 users into results/baseline/<time>: make baseline ARGS="--flavour cpu"
	@sh scripts/setup.sh && $(BIN)/python loadtests/baseline.py $(ARGS)

recordings: ## Make the recordings of the real stack anew, 2 hours: make recordings ARGS="--flavour cpu"
	@sh scripts/setup.sh && $(BIN)/gpupilot campaign --out recordings $(ARGS)

fidelity: ## Hold the simulator against the real stack, live, in some 4 minutes; ARGS=--docs replays the shipped runs
	@sh scripts/setup.sh --dev && $(BIN)/python scripts/fidelity.py $(ARGS)

cluster: ## Start a real Kubernetes of plain processes on this machine (as root)
	@sh scripts/setup.sh --dev && $(TESTBED) up $(ARGS)

cluster-light: ## Start its control plane with fake nodes (no root needed)
	@sh scripts/setup.sh --dev && $(TESTBED) up --light $(ARGS)

cluster-operator: ## Run a Prometheus and the operator on it, until Ctrl-C
	@sh scripts/setup.sh --dev && $(TESTBED) operate $(ARGS)

cluster-down: ## Stop either and remove all it left
	@sh scripts/setup.sh --dev && $(TESTBED) down $(ARGS)

model: ## Get the model and write Triton repositories under deploy/triton
	@sh scripts/setup.sh && $(BIN)/gpupilot model --out deploy/triton $(ARGS)

lock: ## Renew requirements.lock from pyproject.toml; ARGS=--upgrade takes newer versions
	@sh scripts/setup.sh --dev && $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
		--all-extras --group dev --no-header --annotation-style line -o requirements.lock $(ARGS)

schemas: ## Renew docs/schemas from the types they describe
	@sh scripts/setup.sh --dev && PYTHONPATH=loadtests $(BIN)/python scripts/schemas.py

crds: ## Renew deploy/crds from the types they describe
	@sh scripts/setup.sh --dev && $(BIN)/python scripts/crds.py

commands: ## Renew docs/commands.md from the command line
	@sh scripts/setup.sh --dev && $(BIN)/python scripts/commands.py

clean: ## Remove what was built and cached; .venv and results stay
	@rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache && find operator agent envs tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
