#!/usr/bin/env python3
"""Boots an image in QEMU, logs in by SSH, and checks that it is the node it was baked to be.

Prints a line for every moment of the boot with its second, then a table of checks; exits with 0 only if all of them
passed. The image itself is not changed. The serial console is kept in a file when something failed.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import checks
from console import Console, Stopped
from machine import Machine, root_partition_offset

MACHINES = ["x86-bios", "x86-uefi", "arm64-uefi", "pi4", "pi-virt"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("machine", choices=MACHINES)
    parser.add_argument("image")
    parser.add_argument("--hostname", required=True, help="the name it must come up with")
    parser.add_argument("--user", required=True, help="the account to log in to")
    parser.add_argument("--key", required=True, help="the SSH private key that opens it; .pub beside it")
    parser.add_argument("--waiting-for", default="", help="HOST:PORT its first boot must be waiting for")
    parser.add_argument("--seed", help="a disk with a cloud-init seed, for an image that was not baked")
    parser.add_argument("--limit", type=float, default=1500, help="seconds until it is given up (1500)")
    parser.add_argument("--log", help="where the serial console is kept, even on success")
    return parser.parse_args()


def ask(wanted, port, console):
    """What the node says about itself: witness.sh by SSH, tried until the node lets us in."""
    command = ["ssh", "-i", wanted.key, "-p", str(port), f"{wanted.user}@127.0.0.1"]
    for option in ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "LogLevel=ERROR"]:
        command += ["-o", option]
    command += ["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=30"]
    complaint = ""
    while console.running() and console.seconds() < wanted.limit:
        hello = subprocess.run([*command, "true"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if hello.returncode == 0:
            break
        complaint = hello.stderr.strip()
        time.sleep(3)
    else:
        raise Stopped(f"nobody could log in by SSH: {complaint}")
    console.mark("SSH login")
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "witness.sh"), encoding="utf-8") as script:
        witness = subprocess.run(
            [*command, f"sudo -n sh -s '{wanted.user}' '{wanted.waiting_for}'"],
            stdin=script,
            capture_output=True,
            text=True,
            timeout=max(60, wanted.limit - console.seconds()),
        )
    console.mark("checked")
    subprocess.run([*command, "sudo -n systemctl poweroff"], capture_output=True, stdin=subprocess.DEVNULL)
    if "=== " not in witness.stdout:
        raise Stopped(f"the node does not answer questions: {witness.stderr.strip()}")
    return checks.Evidence(witness.stdout)


def boot(wanted, folder, log):
    """One boot: the evidence, and what e2fsck says about the disk afterwards."""
    machine = Machine(wanted.machine, wanted.image, folder, wanted.seed)
    console = Console(machine.command(), log)
    try:
        # Before the name is set some images show a prompt with another one.
        console.wait_for(rb"\b%s login: " % wanted.hostname.encode(), wanted.limit)
        evidence = ask(wanted, machine.ssh_port, console)
        console.wait_until_off(console.seconds() + 300)
        console.mark("power off")
    finally:
        console.close()
    disk = machine.after_power_off()
    fsck = ["e2fsck", "-fn", f"{disk}?offset={root_partition_offset(disk)}"]
    return evidence, subprocess.run(fsck, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def judge(wanted, evidence, fsck):
    """All checks as (passed, name, words)."""
    verdicts = []
    for check in checks.ALWAYS + (checks.BAKED if wanted.waiting_for else []):
        try:
            verdict = (True, check(evidence, wanted))
        except checks.Failed as failed:
            verdict = (False, str(failed))
        verdicts.append((verdict[0], check.__name__.replace("_", " "), verdict[1]))
    clean = fsck.returncode == 0
    words = "e2fsck -fn: clean" if clean else f"e2fsck -fn: {fsck.stdout.strip()} {fsck.stderr.strip()}"
    verdicts.append((clean, "root file system is sound after power off", words))
    return verdicts


def report(wanted, folder, log):
    """Boots, prints what came of it, and returns whether all of it is good."""
    print(f"boot: {os.path.basename(wanted.image)} on {wanted.machine}", flush=True)
    try:
        evidence, fsck = boot(wanted, folder, log)
        verdicts = judge(wanted, evidence, fsck)
        for name in ["kernel", "start-up"]:
            print(f"           {name}: {evidence[name].splitlines()[0]}")
    except (Stopped, RuntimeError, subprocess.TimeoutExpired, checks.Failed) as failed:
        verdicts = [(False, "boots and answers", str(failed))]
    for passed, name, words in verdicts:
        print(f"  {'ok  ' if passed else 'FAIL'}  {name:42} {words}")
    return all(passed for passed, _, _ in verdicts)


def main():
    wanted = arguments()
    # Being told to stop ends the machine, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Not /tmp: it may be in memory, and disks are large.
    place = os.environ.get("TMPDIR", "/var/tmp")
    with tempfile.TemporaryDirectory(prefix="imgbake-boot-", dir=place) as folder:
        log = wanted.log or os.path.join(folder, "serial.log")
        if report(wanted, folder, log):
            return 0
        kept = wanted.log or shutil.copy(log, os.path.join(place, f"imgbake-boot-{wanted.machine}.log"))
    print(f"boot: failed; the serial console is in {kept}, its end:")
    with open(kept, encoding="utf-8", errors="replace") as file:
        print("".join(file.readlines()[-25:]))
    return 1


if __name__ == "__main__":
    sys.exit(main())
