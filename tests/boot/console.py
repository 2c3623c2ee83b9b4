"""A virtual machine's serial console: its text, its log file and the moments worth telling."""

import os
import re
import signal
import subprocess
import threading
import time

# What a boot is measured by, in the order in which it happens.
MILESTONES = [
    ("boot loader", rb"GNU GRUB|Loading Linux|Booting `"),
    ("kernel", rb"Linux version \d"),
    ("root file system mounted", rb"EXT4-fs \(\S+\): mounted filesystem"),
    ("systemd", rb"Welcome to "),
    ("cloud-init", rb"Cloud-init v\. \S+ running 'init"),
    ("login prompt", rb"\S+ login: "),
    ("cloud-init finished", rb"Cloud-init v\. \S+ finished"),
]


class Stopped(Exception):
    """The machine did not do what was waited for."""


class Console:
    """Runs a machine whose first serial port is its standard output."""

    def __init__(self, command, log):
        self.started = time.monotonic()
        self.text = b""
        self.reached = {}
        self._changed = threading.Condition()
        self._log = open(log, "wb")
        self._log.write((" ".join(command) + "\n").encode())
        self._machine = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def seconds(self):
        return time.monotonic() - self.started

    def mark(self, name):
        """Notes and tells that something has been reached."""
        if name not in self.reached:
            self.reached[name] = self.seconds()
            print(f"{self.reached[name]:7.1f} s  {name}", flush=True)

    def wait_for(self, pattern, deadline):
        """The match of `pattern` in all the text so far, once there is one."""
        with self._changed:
            while not (match := re.search(pattern, self.text)):
                if not self.running():
                    raise Stopped(f"the machine stopped before `{pattern.decode()}` appeared")
                if self.seconds() > deadline:
                    raise Stopped(f"`{pattern.decode()}` did not appear within {deadline:.0f} s")
                self._changed.wait(1)
            return match

    def running(self):
        return self._reader.is_alive()

    def wait_until_off(self, deadline):
        """Waits for the end of the machine, or for the kernel's last words where a machine cannot switch itself off."""
        while self.running() and self.seconds() < deadline:
            if re.search(rb"reboot: (Power down|System halted)", self.text):
                self._reader.join(5)
                return
            self._reader.join(1)

    def close(self):
        if self._machine.poll() is None:
            self._machine.send_signal(signal.SIGTERM)
            try:
                self._machine.wait(10)
            except subprocess.TimeoutExpired:
                self._machine.kill()
        self._reader.join(10)
        self._log.close()

    def _read(self):
        while data := os.read(self._machine.stdout.fileno(), 65536):
            self._log.write(data.replace(b"\n", b"\n[%7.1f] " % self.seconds()))
            self._log.flush()
            with self._changed:
                self.text += data
                self._changed.notify_all()
            recent = self.text[-len(data) - 400 :]
            for name, pattern in MILESTONES:
                if name not in self.reached and re.search(pattern, recent):
                    self.mark(name)
