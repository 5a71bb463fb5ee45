# Everything that a newcomer needs: `make demo`, `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PKG_CONFIG_PATH := $(CURDIR)/.deps/pkgconfig:$(PKG_CONFIG_PATH)
# What only lists, formats or removes builds no llama.cpp first.
ifneq ($(filter-out help clean lint format,$(or $(MAKECMDGOALS),help)),)
-include .deps/llama.mk
endif

# A shared llama.cpp has to be found at run time; the pinned one is linked in.
ifneq ($(LLAMA_RPATH),)
LINK := -Xlinker -rpath -Xlinker "$(LLAMA_RPATH)"
endif
# One file to copy: the Swift runtime goes into the program where the platform allows it.
ifeq ($(shell uname -s),Linux)
STATIC := --static-swift-stdlib
endif
LADDER := .build/release/ladder

.PHONY: help bootstrap build demo test models check-memory test-accelerator dist check-templates check-peft check-hub check-serve check-mpi docs lint format bench study clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

bootstrap:  ## build the pinned llama.cpp and fetch the demo model into .deps/
	scripts/bootstrap

build: .deps/llama.mk  ## build the ladder command in release: .build/release/ladder
	swift build -c release --product ladder $(STATIC) $(LINK)

demo:  ## fine-tune Gemma 3 270M on an inbox of messages and show it before and after
	scripts/bootstrap
	$(MAKE) --no-print-directory build
	scripts/demo $(LADDER)

test:  ## run every test, on tiny models written by the tests and on Gemma 3 270M
	scripts/bootstrap llama model mpi
	$(MAKE) --no-print-directory run-tests

.PHONY: run-tests
run-tests:
	swift test --no-parallel -Xswiftc -O -Xcc -O2 $(LINK)

check-memory:  ## the tests, with memory that is unmapped as soon as it is freed (Linux): a stale pointer ends them
	scripts/bootstrap llama model mpi
	GLIBC_TUNABLES=glibc.malloc.mmap_threshold=4096:glibc.malloc.mmap_max=1000000:glibc.malloc.perturb=165 \
	  $(MAKE) --no-print-directory run-tests

test-accelerator:  ## the numerical tests on Vulkan, in software where there is no device (an hour and more on two cores; root on Debian 12); FILTER=Suite for some
	scripts/test-accelerator "$(FILTER)"

dist:  ## a program to hand on: .deps/dist/ladder-VERSION-linux-ARCH.tar.gz (root, debootstrap; a quarter of an hour)
	scripts/dist

bench:  ## speed and memory against the engine's own; FULL=1 adds a 7B shape, DATA=file.jsonl takes other samples
	scripts/bootstrap
	$(MAKE) --no-print-directory build
	Benchmarks/run $(DATA)

study:  ## the studies of docs/ (hours): DATA=folder with the samples, OUT=folder, STUDY="accuracy depth …"
	scripts/bootstrap
	$(MAKE) --no-print-directory build
	Benchmarks/study "$(DATA)" "$(or $(OUT),study)" $(STUDY)

check-templates:  ## tokens of conversations against the transformers package, for the templates of well-known models
	scripts/bootstrap llama
	$(MAKE) --no-print-directory build
	scripts/check-templates $(LADDER)

check-peft:  ## PEFT computes with QLoRA's files what Ladder does, and learns the same; DATA=folder takes its gsm8k (an hour)
	scripts/bootstrap
	$(MAKE) --no-print-directory build
	scripts/check-peft-adapter $(LADDER)
	scripts/check-training --ladder $(LADDER) $(if $(DATA),--train $(DATA)/gsm8k.train.jsonl --dev $(DATA)/gsm8k.dev.jsonl)

check-hub:  ## Ladder and huggingface_hub find each other's files in one cache
	$(MAKE) --no-print-directory build
	scripts/check-hub $(LADDER)

check-serve:  ## the server from outside: the openai client, fuzzing, the page in Chromium, ten minutes of bad clients (half an hour)
	scripts/bootstrap
	$(MAKE) --no-print-directory build
	scripts/check-serve $(LADDER)

check-mpi:  ## training in four network namespaces with shaped links, over MPICH and Open MPI (root; a quarter of an hour)
	scripts/bootstrap llama model mpi
	$(MAKE) --no-print-directory build
	scripts/check-mpi $(LADDER)

models: .deps/llama.mk  ## try a tiny model of each of llama.cpp's architectures and write docs/models.md (minutes)
	swift build -c release --product model-table $(STATIC) $(LINK)
	.build/release/model-table docs/models.md

docs: .deps/llama.mk  ## the library's documentation as a site: .build/docs (open it over HTTP)
	swift package --allow-writing-to-directory .build/docs generate-documentation --target Ladder --target LadderCore \
	  --target LadderData --target LadderBackbone --target LadderMethods --target LadderTrain --target LadderEval \
	  --target LadderCompute --target LadderInference --target LadderStudy --target LadderServe --target LadderHub --target LadderDistil \
	  --target LadderMPI \
	  --enable-experimental-combined-documentation --transform-for-static-hosting --output-path .build/docs

lint:  ## check the format of the sources
	swift format lint --strict --recursive Package.swift Sources Tests

format:  ## format the sources in place
	swift format --in-place --recursive Package.swift Sources Tests

clean:  ## remove what was built; .deps/ stays
	rm -rf .build

.deps/llama.mk:
	scripts/bootstrap llama
