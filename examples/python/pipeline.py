#!/usr/bin/env python3
"""Finds files of the same content below a folder, in three stages: list, read, compare.
Shows stages joined by channels: a stage waits while the next is behind, and closing tells that no more will come.

    python pipeline.py [FOLDER] [--readers 8]
"""

import argparse
import hashlib
import pathlib
import sys

import weft


def list_files(folder, paths):
    for path in folder.rglob("*"):
        if path.is_file():
            paths.send(path)
    paths.close()


def read_some(paths, digests):
    for path in paths:
        try:
            digests.send((hashlib.sha256(weft.to_thread(path.read_bytes)).digest(), path))
        except OSError as error:
            print(f"pipeline: {error}", file=sys.stderr)


def read_files(readers, paths, digests):
    with weft.TaskGroup() as group:
        for _ in range(max(readers, 1)):
            group.spawn(read_some, paths, digests)
    digests.close()


def main():
    parser = argparse.ArgumentParser(description="Find files of the same content below a folder.")
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=".")
    parser.add_argument("--readers", type=int, default=8, metavar="N", help="files read at a time (default: 8)")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    paths, digests, first, count = weft.Channel(16), weft.Channel(16), {}, 0
    with weft.TaskGroup() as group:
        group.spawn(list_files, options.folder, paths)
        group.spawn(read_files, options.readers, paths, digests)
        for count, (content, path) in enumerate(digests, 1):
            if first.setdefault(content, path) != path:
                print(f"{path} is the same as {first[content]}", flush=True)
    print(f"{count} files, {len(first)} different ones")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
