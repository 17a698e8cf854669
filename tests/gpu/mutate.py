#!/usr/bin/env python3
"""Shows that the emulated tests see every barrier, mask and bound of the CUDA
kernels: takes them away one at a time (mutants.py), and runs the tests that
cover the kernel until one fails. Needs no GPU.

    mutate.py [--only FILE]... [--list] [--allowed] [--jobs N] [--timeout S]
              [--folder FOLDER]

A crash, an error of the emulation, a failed expectation and a run without an
end (--timeout, 120 seconds of CPU time: no test takes a tenth of that) all kill
a mutant. One line a mutant, `killed|SURVIVED
file:line rule`; exit code 1 when one survives that allowed_mutants.toml does
not name, with its reason, or when that file names one that there isn't.

Mutants that may survive are run with --allowed only: killed ones then fail.
FOLDER (build/cuda-mutants) keeps what was compiled and results.tsv: a mutant is
run again only after a change of its kernel, its tests or what those include.
"""

import argparse
import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tomllib

import mutants

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERNELS = pathlib.Path("runtime/kernels/cuda")
EMULATION = pathlib.Path("tests/testing/cuda_emulation")
TESTS = pathlib.Path("tests/runtime/kernels/cuda")
ALLOWED = pathlib.Path("tests/gpu/allowed_mutants.toml")

_LORA = ["lora_test"]
_SAMPLING = ["sampling_test", "sampling_random_test"]
# Which tests see a file's kernels; those that fail soonest first.
COVERED_BY = {
    "activate.cu": ["activate_test"],
    "attention.cu": ["paged_attention_test"],
    "attention_kernel.cuh": ["paged_attention_test"],
    "embed.cu": ["layer_test"],
    "floats.cuh": ["paged_attention_test"],
    "kv_pages.cu": ["layer_test"],
    "logits.cu": ["logits_test"],
    "lora_expand.cu": _LORA,
    "lora_route.cu": ["lora_route_test"],
    "lora_shrink.cu": _LORA,
    "lora_tile.cuh": _LORA,
    "norm.cu": ["layer_test"],
    "rope.cu": ["rope_test"],
    "sampling.cu": ["accept_drafts_test", *_SAMPLING],
    "sampling_adjust.cuh": _SAMPLING,
    "sampling_block.cuh": _SAMPLING,
    "sampling_math.cuh": _SAMPLING,
}
# What the tests of sampling compare with.
SAMPLER = [
    "runtime/model/sampler.cc",
    "runtime/model/step_sampling.cc",
    "runtime/model/vector_math.cc",
]

COMPILE = ["g++", "-std=c++20", "-O1", "-g0", "-w", "-ffp-contract=off", "-MMD"]
LIBRARIES = (
    "-lgmock -lgtest -lgtest_main -lboost_context -labsl_status -labsl_statusor "
    "-labsl_strings -labsl_str_format_internal -labsl_cord -labsl_throw_delegate "
    "-labsl_raw_logging_internal -labsl_base -labsl_int128 -lpthread"
).split()

# Each file's mutants have the numbers from here on, times its place.
NUMBERS_OF_FILE = 1000
SWITCH_H = "extern const int descant_mutant;\n"
SWITCH_CC = """#include <cstdlib>
extern const int descant_mutant;
const int descant_mutant = [] {
  const char* number = std::getenv("DESCANT_MUTANT");
  return number == nullptr ? 0 : std::atoi(number);
}();
"""


def kernel_files() -> list[str]:
    """The sources that the emulation compiles, and their headers."""
    cmake = (ROOT / EMULATION / "CMakeLists.txt").read_text()
    sources = re.findall(r"\$\{folder\}/(\w+\.cu)\b", cmake)
    headers = [path.name for path in (ROOT / KERNELS).glob("*.cuh")]
    return sorted(sources) + sorted(headers)


def write_if_changed(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


class Build:
    """Kernels with all of their mutants, and the tests, in `folder`."""

    def __init__(self, folder: pathlib.Path, jobs: int) -> None:
        self.folder = folder.resolve()
        self.source = self.folder / "source"
        self.jobs = jobs
        self.compiler = COMPILE + [
            f"-I{self.source}",
            f"-I{ROOT}",
            f"-I{ROOT / EMULATION}",
            f"-include{self.source / 'switch.h'}",
        ]
        if shutil.which("ccache"):
            self.compiler.insert(0, "ccache")

    def write(self, found: dict[str, list[mutants.Mutant]]) -> None:
        for place, (file, of_file) in enumerate(found.items()):
            text = mutants.with_all(
                (ROOT / KERNELS / file).read_text(), of_file, place * NUMBERS_OF_FILE
            )
            write_if_changed(self.source / KERNELS / file, text)
        write_if_changed(self.source / "switch.h", SWITCH_H)
        write_if_changed(self.source / "switch.cc", SWITCH_CC)

    def compile(self, source: pathlib.Path) -> pathlib.Path:
        target = self.folder / (source.name + ".o")
        subprocess.run(
            [*self.compiler, "-x", "c++", "-c", str(source), "-o", str(target)],
            check=True,
        )
        return target

    def make(self, kernels: list[str], tests: list[str]) -> None:
        sources = [self.source / "switch.cc"]
        sources += [self.source / KERNELS / file for file in kernels]
        sources += sorted((ROOT / EMULATION).glob("*.cc"))
        sources += [ROOT / file for file in SAMPLER]
        sources += [ROOT / TESTS / f"{test}.cc" for test in tests]
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            compiled = list(pool.map(self.compile, sources))
        shared, of_tests = compiled[: -len(tests)], compiled[-len(tests) :]
        for test, target in zip(tests, of_tests):
            command = ["g++", "-o", str(self.folder / test), str(target)]
            subprocess.run(
                [*command, *map(str, shared), *LIBRARIES], check=True
            )

    def inputs(self, name: str) -> set[pathlib.Path]:
        """What was read for an object, of this repository."""
        rule = (self.folder / f"{name}.d").read_text().replace("\\\n", " ")
        paths = {pathlib.Path(word) for word in rule.split(":", 1)[1].split()}
        own = ROOT, self.source
        return {path for path in paths if any(map(path.is_relative_to, own))}


@dataclasses.dataclass(frozen=True)
class Outcome:
    killed: bool
    by: str


def run_test(build: Build, test: str, number: int, timeout: int) -> str:
    """Empty where the test passes; else how it ended."""
    # CPU time: a busy machine kills no mutant. (The emulation never sleeps.)
    limited = f'ulimit -t {timeout}; exec "$0" "$@"'
    code = subprocess.run(
        ["sh", "-c", limited, str(build.folder / test), "--gtest_break_on_failure"],
        env=dict(os.environ, DESCANT_MUTANT=str(number)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ).returncode
    return "" if code == 0 else f"{test}: {code}"


def run_mutant(build: Build, file: str, number: int, timeout: int) -> Outcome:
    for test in COVERED_BY[file]:
        if by := run_test(build, test, number, timeout):
            return Outcome(True, by)
    return Outcome(False, "")


class Results:
    """Outcomes of earlier runs, by a hash of all that they depend on."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.outcomes: dict[str, Outcome] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                key, killed, by = (line + "\t").split("\t")[:3]
                self.outcomes[key] = Outcome(killed == "killed", by)

    def add(self, key: str, outcome: Outcome, name: str) -> None:
        self.outcomes[key] = outcome
        verdict = "killed" if outcome.killed else "survived"
        with self.path.open("a") as out:
            out.write(f"{key}\t{verdict}\t{outcome.by}\t{name}\n")


def digest(build: Build, kernels: list[str], tests: list[str]) -> str:
    """Of all that an outcome of the tests depends on, but for the mutant."""
    objects = [*kernels, *(f"{test}.cc" for test in tests)]
    objects += [path.name for path in (ROOT / EMULATION).glob("*.cc")]
    objects += [pathlib.Path(path).name for path in SAMPLER]
    inputs = set().union(*(build.inputs(name) for name in objects))
    key = hashlib.sha256(" ".join(objects + COMPILE).encode())
    for path in sorted(inputs):
        # As it was before it got its mutants: they are off but for one.
        original = ROOT / KERNELS / path.name
        is_kernel = path.is_relative_to(build.source) and original.exists()
        key.update(f"\n{path.name}\n".encode())
        key.update((original if is_kernel else path).read_bytes())
    return key.hexdigest()


def key_of(mutant: mutants.Mutant, of_file: str) -> str:
    code = mutant.wrap("on", "code")
    described = f"{of_file} {mutant.span} {mutant.rule} {code}"
    return hashlib.sha256(described.encode()).hexdigest()[:24]


Allowed = dict[tuple[str, str, str], str]


def read_allowed() -> Allowed:
    """Reasons, by file, line's text and rule."""
    entries = tomllib.loads((ROOT / ALLOWED).read_text()).get("mutant", [])
    for entry in entries:
        if set(entry) != {"file", "line", "rule", "reason"} or not entry["reason"]:
            sys.exit(f"{ALLOWED}: file, line, rule and reason, please: {entry}")
    return {(e["file"], e["line"], e["rule"]): e["reason"] for e in entries}


class Run:
    def __init__(
        self,
        build: Build,
        found: dict[str, list[mutants.Mutant]],
        options: argparse.Namespace,
    ) -> None:
        self.build = build
        self.timeout = options.timeout
        self.kernels = [file for file in found if file.endswith(".cu")]
        self.numbers = {
            file: place * NUMBERS_OF_FILE for place, file in enumerate(found)
        }
        self.results = Results(build.folder / "results.tsv")

    def baseline(self, test: str) -> Outcome:
        """Without a mutant."""
        key = f"{test}-{digest(self.build, self.kernels, [test])[:24]}"
        if key not in self.results.outcomes:
            by = run_test(self.build, test, 0, self.timeout)
            self.results.add(key, Outcome(by != "", by), test)
        return self.results.outcomes[key]

    def digest_of(self, file: str) -> str:
        """Of what its mutants' outcomes depend on."""
        source = self.build.source / KERNELS / file
        users = [each for each in self.kernels if source in self.build.inputs(each)]
        return digest(self.build, users, COVERED_BY[file])

    def outcome(self, mutant: mutants.Mutant, of_file: str) -> Outcome:
        key = key_of(mutant, of_file)
        if key not in self.results.outcomes:
            number = self.numbers[mutant.file] + mutant.number
            outcome = run_mutant(self.build, mutant.file, number, self.timeout)
            self.results.add(key, outcome, str(mutant))
        return self.results.outcomes[key]


def run_all(
    build: Build,
    found: dict[str, list[mutants.Mutant]],
    allowed: Allowed,
    options: argparse.Namespace,
) -> int:
    chosen = [file for file in options.only or found if found[file]]
    tests = sorted({test for file in chosen for test in COVERED_BY[file]})
    build.write(found)
    build.make([file for file in found if file.endswith(".cu")], tests)
    run = Run(build, found, options)
    counts = {"killed": 0, "allowed": 0, "SURVIVED": 0, "killed, though allowed": 0}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        baselines = [pool.submit(run.baseline, test) for test in tests]
        running = []
        for file in chosen:
            of_file = run.digest_of(file)
            for mutant in found[file]:
                may = (mutant.file, mutant.text, mutant.rule) in allowed
                future = None
                if options.allowed or not may:
                    future = pool.submit(run.outcome, mutant, of_file)
                running.append((mutant, may, future))
        for baseline in baselines:
            if baseline.result().killed:
                pool.shutdown(cancel_futures=True)
                sys.exit(f"without a mutant: {baseline.result().by}")
        for mutant, may, future in running:
            killed = future is not None and future.result().killed
            verdict = "killed" if killed else "allowed" if may else "SURVIVED"
            if killed and may:
                verdict = "killed, though allowed"
            counts[verdict] += 1
            print(verdict, mutant, flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return 1 if counts["SURVIVED"] or counts["killed, though allowed"] else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--only", metavar="FILE", action="append", help="a file of the kernels"
    )
    parser.add_argument("--list", action="store_true", help="what there is to run")
    parser.add_argument(
        "--allowed", action="store_true", help="runs those that may survive, too"
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--timeout", type=int, default=120, help="seconds of CPU")
    parser.add_argument(
        "--folder", type=pathlib.Path, default=ROOT / "build/cuda-mutants"
    )
    options = parser.parse_args()
    found = {
        file: mutants.find(file, (ROOT / KERNELS / file).read_text())
        for file in kernel_files()
    }
    for file, of_file in found.items():
        if of_file and file not in COVERED_BY:
            sys.exit(f"no tests cover {file}: see COVERED_BY")
    if unknown := set(options.only or ()) - set(found):
        sys.exit(f"no such file: {unknown}")
    allowed = read_allowed()
    there = [(m.file, m.text, m.rule) for each in found.values() for m in each]
    if wrong := [entry for entry in allowed if there.count(entry) != 1]:
        sys.exit(f"{ALLOWED}: not there any more, or more than once: {wrong}")
    if options.list:
        for file in options.only or found:
            for mutant in found[file]:
                print(mutant)
        return 0
    # No core files; a mutant that allocates without end fails.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    return run_all(Build(options.folder, options.jobs), found, allowed, options)


if __name__ == "__main__":
    sys.exit(main())
