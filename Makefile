# `make demo` runs the main job, `make test` tests it. Each sets up what it needs; Python 3.11+ is all it takes.
.PHONY: demo demo-down test test-fast test-stack lock
VENV := .venv
PYTHON ?= python3
ANSWERS ?=
DEMO := .demo/my_site

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --no-deps --require-hashes -r requirements.txt
	touch $@

# usage: make demo [ANSWERS="pool_mode=session web_worker=asgi connection_strategy=pool"]
demo: $(VENV)/installed
	mkdir -p .demo
	$(VENV)/bin/cookiecutter --no-input --overwrite-if-exists --output-dir .demo . $(ANSWERS)
	@if docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; then \
		$(MAKE) --no-print-directory demo-docker; \
	else \
		echo "No Docker Engine answers: the same stack as plain processes. Ctrl-C stops it."; \
		$(MAKE) --no-print-directory -C $(DEMO) demo PYTHON=$(PYTHON); \
	fi

demo-docker:
	cd $(DEMO) && docker compose up --detach --build --wait
	cd $(DEMO) && docker compose exec -T web python manage.py seed_articles
	cd $(DEMO) && docker compose exec -T web python manage.py topology
	@echo
	@echo "The site: http://localhost:$$(sed -n 's/^WEB_PORT=//p' $(DEMO)/.env)/    it is in $(DEMO)"
	@echo "Stop it: make demo-down (with its data), or in $(DEMO): docker compose down"

demo-down:
	cd $(DEMO) && docker compose down --volumes

# Everything. Without an engine the Docker tier is skipped, and says so; REQUIRE_DOCKER=1 makes that an error.
test: test-fast test-stack

test-fast: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/shellcheck .ci/run tests/engine/install tests/base_images/build
	$(VENV)/bin/pytest -n 2 -m "not stack"

test-stack: $(VENV)/installed
	$(VENV)/bin/pytest -m stack -rs

# After editing pyproject.toml here or in the generated project.
lock: $(VENV)/installed
	$(VENV)/bin/python -m tests.lock
