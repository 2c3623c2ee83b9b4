# imgbake's front door. On a bare Debian or Ubuntu machine `make demo` and `make test` are all it takes: they install
# what is missing (tests/packages/ lists it; sudo only if you are not root), build and run.

.PHONY: help demo test boot-test bench ci build tools

export PATH := $(HOME)/.cargo/bin:$(PATH)
TARGET := $(or $(CARGO_TARGET_DIR),target)
CARGO := cargo --locked
IMGBAKE := $(TARGET)/release/imgbake

help:
	@echo "make demo       bake node2.img, a Raspberry Pi 4 worker, from the Debian archive"
	@echo "make test       run all tests, one boot in QEMU among them"
	@echo "make boot-test  boot every kind of baked image in QEMU"
	@echo "make bench      measure a bake against copying the same bytes"
	@echo "make ci         what continuous integration runs"

demo:
	tests/packages/install build base demo
	$(MAKE) build
	tests/packages/bake-demo $(IMGBAKE) node2.img

build:
	tests/packages/rust
	$(CARGO) build --release

# The debug build serves the boot here, so that the tests compile imgbake once.
test: tools
	$(CARGO) test
	IMGBAKE=$(TARGET)/debug/imgbake tests/boot/run x86-bios

boot-test: tools build
	IMGBAKE=$(IMGBAKE) tests/boot/run x86-bios x86-uefi pi4

bench: tools
	$(CARGO) bench

ci:
	.ci/run

tools:
	tests/packages/install build base judges boot
	tests/packages/rust
