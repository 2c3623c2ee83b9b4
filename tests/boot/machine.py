"""The machines an image is booted on: QEMU's command line for each, from nothing but the image itself.

No machine mounts anything or needs root: the disk is a copy-on-write overlay, so that the image stays as it is, and
what the Raspberry Pi's firmware would read from the boot partition is read with mtools. Everything is emulated
(TCG), so that a result does not depend on the host's processor.
"""

import json
import os
import re
import shutil
import socket
import subprocess

SECTOR = 512
GIB = 1 << 30

# Parts of a Raspberry Pi 4 that QEMU does not model and on which a kernel stumbles: interrupt controllers, clocks
# and outputs of the display, the PCIe bridge's USB, the voltage monitor.
PI_NOT_MODELLED = [
    "/soc/interrupt-controller@7ef00100", "/soc/clock@7ef00000", "/soc/hdmi@7ef00700", "/soc/hdmi@7ef05700",
    "/soc/i2c@7ef04500", "/soc/i2c@7ef09500", "/soc/pixelvalve@7e206000", "/soc/pixelvalve@7e207000",
    "/soc/pixelvalve@7e20a000", "/soc/pixelvalve@7e216000", "/soc/pixelvalve@7ec12000", "/soc/vec@7ec13000",
    "/soc/hvs@7e400000", "/scb/gpu@7ec00000", "/soc/avs-monitor@7d5d2000", "/scb/usb@7e9c0000", "/gpu",
]  # fmt: skip

# QEMU's raspi4b wants to be told about the console; its clocks and power domains are stubs that must stay on.
PI_ARGUMENTS = (
    "console=ttyAMA0,115200 earlycon=pl011,mmio32,0xfe201000 "
    "pd_ignore_unused clk_ignore_unused cryptomgr.notests"
)


def run(*command):
    """Runs a tool and returns what it printed; a failure shows what it complained about."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def partitions(image):
    """The image's partitions as sfdisk sees them: start and size in sectors, type."""
    table = json.loads(run("sfdisk", "--json", image))["partitiontable"]
    return table["partitions"]


def root_partition_offset(image):
    """Where the root file system begins, in bytes: the largest partition of every image we make."""
    return max(partitions(image), key=lambda partition: partition["size"])["start"] * SECTOR


class Machine:
    """One boot of one image. `folder` takes everything that is made for it."""

    def __init__(self, kind, image, folder, seed=None):
        self.kind, self.folder, self.seed = kind, folder, seed
        self.image = os.path.realpath(image)
        self.ssh_port = free_port()
        self.disk = os.path.join(folder, "disk.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", self.image, "-F", "raw", self.disk, str(self._disk_size()))

    def command(self):
        return {
            "x86-bios": self._x86_bios,
            "x86-uefi": self._x86_uefi,
            "arm64-uefi": self._arm64_uefi,
            "pi4": self._pi4,
            "pi-virt": self._pi_virt,
        }[self.kind]()

    def after_power_off(self):
        """The disk as the machine left it, as a raw image."""
        raw = os.path.join(self.folder, "disk.raw")
        run("qemu-img", "convert", "-O", "raw", self.disk, raw)
        return raw

    def _disk_size(self):
        """Larger than the image, so that growing at first boot is seen; QEMU's SD cards are powers of two."""
        size = os.path.getsize(self.image)
        if self.kind == "pi4":
            return 1 << size.bit_length()
        return size + GIB

    def _network(self, device):
        # Nobody but this test gets in, and the machine gets out to nobody.
        forward = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22"
        return ["-netdev", forward, "-device", f"{device},netdev=net"]

    def _usual(self):
        """What all machines with a PCI bus have in common."""
        drives = ["-drive", f"if=virtio,format=qcow2,file={self.disk}"]
        if self.seed:
            drives += ["-drive", f"if=virtio,format=raw,readonly=on,file={self.seed}"]
        return [
            "-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024",
            "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot",
            *drives, *self._network("virtio-net-pci"),
        ]  # fmt: skip

    def _firmware(self, code, variables):
        """A pair of flash chips: the firmware, and a copy of its empty variables."""
        for path in (code, variables):
            if not os.path.exists(path):
                raise RuntimeError(f"{path} is missing: install ovmf or qemu-efi-aarch64")
        copy = os.path.join(self.folder, "variables.fd")
        shutil.copyfile(variables, copy)
        chip = "if=pflash,format=raw"
        return ["-drive", f"{chip},readonly=on,file={code}", "-drive", f"{chip},file={copy}"]

    def _x86_bios(self):
        return ["qemu-system-x86_64", "-M", "pc", "-cpu", "max", *self._usual()]

    def _x86_uefi(self):
        firmware = self._firmware("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd")
        return ["qemu-system-x86_64", "-M", "q35", "-cpu", "max", *firmware, *self._usual()]

    def _arm64_uefi(self):
        firmware = self._firmware("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd")
        return ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", *firmware, *self._usual()]

    def _pi_virt(self):
        """The Pi's disk, kernel and initrd on QEMU's generic ARM machine."""
        kernel, initrd, _, arguments = self._pi_boot_files()
        return [
            "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", *self._usual(),
            "-kernel", kernel, "-initrd", initrd, "-append", f"{arguments} console=ttyAMA0",
        ]  # fmt: skip

    def _pi4(self):
        kernel, initrd, tree, arguments = self._pi_boot_files()
        return [
            "qemu-system-aarch64", "-M", "raspi4b", "-accel", "tcg,thread=multi", "-smp", "4", "-m", "2G",
            "-kernel", kernel, "-initrd", initrd, "-dtb", self._pi_device_tree(tree),
            "-append", f"{arguments} {PI_ARGUMENTS}",
            "-drive", f"if=sd,format=qcow2,file={self.disk}",
            *self._network("usb-net"),
            "-display", "none", "-serial", "stdio", "-serial", "null", "-monitor", "none", "-no-reboot",
        ]  # fmt: skip

    def _pi_boot_files(self):
        """Kernel, initrd, device tree and kernel arguments, as config.txt on the boot partition names them."""
        offset = partitions(self.image)[0]["start"] * SECTOR

        def take(name):
            copy = os.path.join(self.folder, os.path.basename(name))
            run("mcopy", "-n", "-i", f"{self.image}@@{offset}", f"::{name}", copy)
            return copy

        with open(take("config.txt"), encoding="utf-8") as file:
            config = pi_config(file.read())
        prefix = config.get("os_prefix", "")
        with open(take(prefix + config.get("cmdline", "cmdline.txt")), encoding="utf-8") as file:
            arguments = file.read().strip()
        return (
            take(prefix + config["kernel"]),
            take(prefix + config["initramfs"]),
            take(prefix + "bcm2711-rpi-4-b.dtb"),
            arguments,
        )

    def _pi_device_tree(self, original):
        """The image's own device tree, changed where QEMU's raspi4b is not a Raspberry Pi 4."""
        tree = os.path.join(self.folder, "qemu.dtb")
        shutil.copyfile(original, tree)

        def has(node):
            return subprocess.run(["fdtget", "-p", tree, node], capture_output=True).returncode == 0

        def put(node, name, value):
            run("fdtput", "-t", "s", tree, node, name, value)

        def drop(node, *names):
            for name in names:
                subprocess.run(["fdtput", "-d", tree, node, name], capture_output=True)

        for node in filter(has, PI_NOT_MODELLED):
            put(node, "status", "disabled")
        # QEMU's SD card is in the slot that is the Wi-Fi chip's on the board, and the other slot is empty.
        # The firmware's GPIO expander, which switches the cards' power, only answers with errors.
        slot = "/soc/mmc@7e300000"
        for node in filter(has, [f"{slot}/wifi@1", "/soc/serial@7e201000/bluetooth"]):
            run("fdtput", "-r", tree, node)
        drop(slot, "mmc-pwrseq", "non-removable")
        run("fdtput", tree, slot, "broken-cd")
        put(slot, "status", "okay")
        # The mini-UART keeps the first processor busy with interrupts; the console is on the PL011.
        for node in ["/emmc2bus/mmc@7e340000", "/wifi-pwrseq", "/soc/firmware/gpio", "/soc/serial@7e215040"]:
            put(node, "status", "disabled")
        # The board's USB-C port is a device port; here it is the host of the network adapter.
        usb = "/soc/usb@7e980000"
        put(usb, "dr_mode", "host")
        put(usb, "status", "okay")
        return tree


def pi_config(text):
    """The settings of a config.txt that hold for a Raspberry Pi 4, the last one winning."""
    settings, applies = {}, True
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if match := re.fullmatch(r"\[(.*)\]", line):
            applies = match[1] in ("all", "pi4")
        elif applies and (match := re.match(r"(\w+)(?:=|\s+)(\S+)", line)):
            settings[match[1]] = match[2]
    return settings
