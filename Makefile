# Everything one does here, as one word each. The work is done by CMake and by the scripts in tools/.
#   make build        build/bin/kvmerger (first time: packages, then llama.cpp into the cache, 5 to 10 minutes)
#   make test         every test; the count is the last line
#   make sanitize     all tests but the slow ones, with the address and undefined-behaviour sanitizers
#   make check        format, includes and sizes of the source
#   make demo bench format deps llama-tools clean
# Options for CMake: make build CMAKE_ARGS=-DKVMERGER_LLAMA_CPP_DIR=/my/llama.cpp

.PHONY: build test sanitize check demo bench format deps llama-tools clean
.NOTPARALLEL:
.DEFAULT_GOAL := build

jobs := $(shell nproc)
generator := $(if $(shell command -v ninja),-G Ninja)
# $(call compile,FOLDER,TARGET,OPTIONS); the generator can be chosen for a new folder only
compile = cmake --log-level=WARNING -S . -B $1 $(if $(wildcard $1/CMakeCache.txt),,$(generator)) $3 $(CMAKE_ARGS) && \
          cmake --build $1 --target $2 -j $(jobs)

build:
	@tools/install_packages
	@$(call compile,build,all)

test: build
	@tools/fetch_model >/dev/null
	@ctest --test-dir build --output-on-failure --no-tests=error --no-label-summary -j $(jobs)

sanitize:
	@tools/install_packages
	@$(call compile,build-asan,all,-DKVMERGER_SANITIZE=ON)
	@UBSAN_OPTIONS=print_stacktrace=1 ctest --test-dir build-asan --output-on-failure --no-tests=error --no-label-summary -j $(jobs) -LE model

check:
	@tools/format --check
	@tools/check_includes.py
	@tools/check_sizes.py
	@tools/check_test_names.py

demo: build
	@tools/demo

bench:
	@tools/install_packages
	@$(call compile,build,benches)
	@for program in build/benches/*; do echo "== $$program" && "$$program" || exit 1; done

format:
	@tools/format

deps:
	@tools/install_packages
	@tools/fetch_deps
	@tools/fetch_model

llama-tools:
	@tools/install_packages
	@folder=$$(tools/fetch_deps --tools) && ls "$$folder/bin/llama-bench" "$$folder/bin/llama-perplexity"

clean:
	rm -rf build build-asan
