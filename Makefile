# imgbake's front door. On a bare Debian or Ubuntu machine `make demo` and `make test` are all it takes: they install
# what is missing (tests/packages/ lists it; sudo only if you are not root), build and run.

.PHONY: help demo test boot-test bench fuzz ci build tools

export PATH := $(HOME)/.cargo/bin:$(PATH)
TARGET := $(or $(CARGO_TARGET_DIR),target)
CARGO := cargo --locked
IMGBAKE := $(TARGET)/release/imgbake

help:
	@echo "make demo       bake node2.img, a Raspberry Pi 4 worker, from the Debian archive"
	@echo "make test       run all tests, one boot in QEMU among them"
	@echo "make boot-test  boot every kind of baked image in QEMU"
	@echo "make bench      measure bakes and the ext4 editor against yardsticks"
	@echo "make fuzz       fuzz the ext4 editor for an hour, ten minutes a target"
	@echo "make ci         what continuous integration runs"

# The public key that will open the node; a new pair beside the image for whoever has none.
KEY := $(or $(firstword $(wildcard $(HOME)/.ssh/id_*.pub)),node2.key.pub)

demo:
	tests/packages/install build base demo
	$(MAKE) build
	test -e $(KEY) || ssh-keygen -q -t ed25519 -N '' -C imgbake -f $(basename $(KEY))
	$(IMGBAKE) pi4 node-2 --base debian-13-rpi --runtime distro --defer kubernetes --ssh-key $(KEY) -o node2.img
	@echo
	@echo "node2.img is a Raspberry Pi 4 that joins the control plane at 10.0.0.1 as soon as it reaches it."
	@echo "  what is in it      $(IMGBAKE) plan pi4 node-2 --base debian-13-rpi --runtime distro --defer kubernetes"
	@echo "  onto an SD card    with Raspberry Pi Imager (Use custom), or: sudo dd if=node2.img of=/dev/sdX bs=4M conv=fsync"
	@echo "  its control plane  $(IMGBAKE) pi4 node-1 --base debian-13-rpi --runtime distro --defer kubernetes -o node1.img"
	@echo "  the key to it      $(basename $(KEY))"

build:
	tests/packages/rust
	$(CARGO) build --release

# The debug build serves the boot here, so that the tests compile imgbake once.
test: tools
	$(CARGO) test
	IMGBAKE=$(TARGET)/debug/imgbake tests/boot/run x86-bios

boot-test: tools build
	IMGBAKE=$(IMGBAKE) tests/boot/run x86-bios x86-uefi x86-bare pi4

bench:
	tests/packages/install build base bench
	tests/packages/rust
	$(CARGO) bench --bench bake --bench ext4

fuzz:
	fuzz/run --seconds 600

ci:
	.ci/run

tools:
	tests/packages/install build base judges boot
	tests/packages/rust
