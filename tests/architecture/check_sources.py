#!/usr/bin/env python3
"""Checks the directions between the folders, where libraries may appear, and the length of files.

    check_sources.py ROOT      prints every violation as file:line: what; exits 1 when there is one

The rules stand in the tables below. A new folder gets its line in MAY_INCLUDE.
"""
import pathlib
import re
import sys

# Folder -> folders (or single headers) of ours that its files may include, besides its own.
MAY_INCLUDE = {
    "experiments": set(),
    "datasets": {"experiments"},
    "ttt": {"experiments"},
    "trainer": {"experiments", "datasets", "ttt"},
    "db": {"experiments"},
    # What the processes share with a trainer is torch-free: the layout of models and the frames.
    "runner": {"experiments", "datasets", "db", "trainer/model_layout.h", "trainer/protocol.h", "trainer/protocol_checkpoint.h",
               "trainer/protocol_diagnose.h"},
}

# Library -> (its headers, folders where they may appear).
LIBRARIES = {
    "LibTorch": (re.compile(r"^(torch|ATen|c10)/"), {"ttt", "trainer"}),
    "NCCL": (re.compile(r"^nccl\.h$"), {"ttt", "trainer"}),
    "CUDA": (re.compile(r"^(cuda|cublas|curand|cub/|thrust/)"), {"ttt", "trainer"}),
    "MPI": (re.compile(r"^mpi(-ext)?\.h$"), {"runner"}),
    "SQLite": (re.compile(r"^sqlite3(ext)?\.h$"), {"db"}),
    "yaml-cpp": (re.compile(r"^yaml-cpp/"), {"experiments"}),
    "CLI11": (re.compile(r"^CLI/"), {"runner", "trainer"}),
}
ONE_SOURCE_ONLY = {"yaml-cpp"}  # in exactly one file, and that a .cpp

SOURCE_SUFFIXES = {".cpp", ".h", ".cu", ".cuh"}
LONGEST_FILE = 400
LONGEST_TEST = 600  # cases of one subject stay together
FORBIDDEN_NAMES = {"utils", "util", "helpers", "misc"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def sources(root, folder):
    base = root / folder
    return sorted(p for p in base.rglob("*") if p.suffix in SOURCE_SUFFIXES and p.is_file()) if base.is_dir() else []


def allowed(folder, target):
    top = target.split("/", 1)[0]
    return top == folder or top in MAY_INCLUDE[folder] or target in MAY_INCLUDE[folder]


def check_includes(root, problems):
    users = {name: [] for name in ONE_SOURCE_ONLY}
    for folder in MAY_INCLUDE:
        for path in sources(root, folder):
            place = path.relative_to(root)
            first_own = None
            used_here = set()
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                quote, target = match.groups()
                if quote == '"':
                    first_own = first_own or target
                    top = target.split("/", 1)[0]
                    if top in MAY_INCLUDE and not allowed(folder, target):
                        problems.append(f"{place}:{number}: {folder} may not include {target}")
                    elif "/" not in target or target.startswith("."):
                        problems.append(f"{place}:{number}: include {target} by its path from the root")
                for library, (headers, folders) in LIBRARIES.items():
                    if not headers.match(target):
                        continue
                    used_here.add(library)
                    if folder not in folders:
                        problems.append(f"{place}:{number}: {library} may appear in {', '.join(sorted(folders))} alone")
            own = path.with_suffix(".h")
            if path.suffix == ".cpp" and own.is_file() and first_own != str(own.relative_to(root)):
                problems.append(f"{place}:1: the first own include must be {own.relative_to(root)}")
            if path.suffix in {".h", ".cuh"} and "#pragma once" not in path.read_text():
                problems.append(f"{place}:1: no #pragma once")
            for library in used_here & ONE_SOURCE_ONLY:
                users[library].append(place)
    for library, places in users.items():
        if len(places) != 1 or places[0].suffix != ".cpp":
            found = ", ".join(map(str, places)) or "none"
            problems.append(f"{library} must be included by exactly one .cpp, but is by: {found}")


def check_sizes_and_names(root, problems):
    lengths = []
    for folder in [*MAY_INCLUDE, "tests"]:
        for path in sources(root, folder):
            place = path.relative_to(root)
            length = len(path.read_text().splitlines())
            lengths.append((length, str(place)))
            longest = LONGEST_TEST if folder == "tests" else LONGEST_FILE
            if length > longest:
                problems.append(f"{place}:{length}: {length} lines; split it ({longest} at most)")
            names = {part.lower() for part in place.parts[:-1]} | {place.stem.lower()}
            if names & FORBIDDEN_NAMES:
                problems.append(f"{place}:1: a name that says nothing ({', '.join(sorted(names & FORBIDDEN_NAMES))})")
    return sorted(lengths, reverse=True)


def main(root):
    problems = []
    check_includes(root, problems)
    lengths = check_sizes_and_names(root, problems)
    if len(lengths) < 6:
        problems.append(f"{root} holds {len(lengths)} sources: not the root of tenfold")
    print(f"{len(lengths)} sources, {sum(n for n, _ in lengths)} lines; the longest:")
    for length, place in lengths[:5]:
        print(f"  {length:5} {place}")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
