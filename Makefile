# The front door. `make up` and `make test` do all set-up themselves and ask nothing.
# tools/install_packages.sh says what it installs. Outside this folder and the system's packages only ~/.cache/pdserve is
# written: packed weights, kept between starts.

BUILD   := build/release
PDSERVE := $(BUILD)/pdserve
DEFAULT_MODEL := models/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL   ?= $(if $(shell grep -s "^ *path *=" "$(CONFIG)"),,$(DEFAULT_MODEL))
# Empty: the configuration file's, or its default.
PREFILL ?=
DECODE  ?=
PORT    ?=
CONFIG  ?=

.PHONY: help up build test bench format lint packages model clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make up [MODEL=PATH] [PREFILL=2] [DECODE=2] [PORT=8000] [CONFIG=FILE]  a P/D cluster on this machine, with an OpenAI API
up: build $(if $(filter $(DEFAULT_MODEL),$(MODEL)),model)
	@$(PDSERVE) up $(if $(MODEL),--model "$(MODEL)") $(if $(PREFILL),--prefill $(PREFILL)) $(if $(DECODE),--decode $(DECODE)) \
	  $(if $(PORT),--port $(PORT)) $(if $(CONFIG),--config "$(CONFIG)")

## make build     the one binary, build/release/pdserve
build: packages
	@cmake --preset release > build/configure.log || { cat build/configure.log; exit 1; }
	@cmake --build --preset release --target pdserve

## make test      every check and test; what CI runs
test:
	@mkdir -p build
	@tools/install_packages.sh --test
	@tools/test.sh

## make bench     measures against the limits named in bench/README.md
bench: build
	@tools/install_packages.sh --test
	@bench/run.sh

## make format    clang-format over all sources
format: packages
	@tools/format.sh

## make lint      formatting, the project's own rules, clang-tidy
lint: packages
	@tools/format.sh --check
	@tools/tidy/tidy.py
	@tools/clang_tidy.sh

packages:
	@mkdir -p build
	@tools/install_packages.sh

model:
	@tools/fetch_default_model.sh

## make clean     removes the build
clean:
	rm -rf build
