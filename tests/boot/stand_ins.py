#!/usr/bin/env python3
"""Makes a mirror of stand-ins for the files that a plan wants from upstream, and a lock file that pins them.

`imgbake plan … --json | stand_ins.py MIRROR LOCK`: below MIRROR there is a script for every program and a small archive
for every archive, each at its upstream's host and path. The lock file is added to, so several plans may share it.
"""

import hashlib
import io
import json
import os
import sys
import tarfile

SCRIPT = """#!/bin/sh
# Stands in for {name}: answers `version`, fails at work.
[ "$1" = version ] && echo stand-in
"""


def artifacts(node):
    """Every artifact in the edits of the root file system: its URL and, of an archive, the members that are wanted."""
    if isinstance(node, dict):
        if "url" in node and "checksum" in node:
            yield node["url"], []
        elif "archive" in node:
            yield node["archive"]["url"], node.get("only", [])
        else:
            for value in node.values():
                yield from artifacts(value)
    elif isinstance(node, list):
        for value in node:
            yield from artifacts(value)


def body(url, members):
    name = url.rsplit("/", 1)[1]
    if not members:
        return SCRIPT.format(name=name).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for member in members:
            script = SCRIPT.format(name=member).encode()
            entry = tarfile.TarInfo(member)
            entry.size, entry.mode = len(script), 0o755
            archive.addfile(entry, io.BytesIO(script))
    return packed.getvalue()


def main():
    mirror, lock = sys.argv[1:]
    known = open(lock, encoding="utf-8").read() if os.path.exists(lock) else "artifacts:\n"
    for url, members in sorted(artifacts(json.load(sys.stdin)["root"])):
        if f"url: {url}\n" in known:
            continue
        path = os.path.join(mirror, url.split("://", 1)[1])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        content = body(url, members)
        with open(path, "wb") as file:
            file.write(content)
        known += f"- url: {url}\n  sha256: {hashlib.sha256(content).hexdigest()}\n"
    with open(lock, "w", encoding="utf-8") as file:
        file.write(known)


if __name__ == "__main__":
    main()
