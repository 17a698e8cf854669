"""What the figures were measured on."""

import os
import pathlib
import re
import subprocess


def describe():
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    field = lambda name: re.search(rf"^{name}\s*: (.*)$", cpu, re.M)
    flags = field("flags").group(1).split()
    sets = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16",
                              "amx_bf16", "amx_int8") if name in flags]
    memory = pathlib.Path("/proc/meminfo").read_text()
    kilobytes = int(re.search(r"MemTotal:\s*(\d+)", memory).group(1))
    return {"cpu": field("model name").group(1).strip(),
            "family": int(field("cpu family").group(1)),
            "model": int(field("model").group(1)),
            "cores": len(os.sched_getaffinity(0)), "instruction_sets": sets,
            "memory_gib": round(kilobytes / (1 << 20))}


def name(description):
    """Fit for a file: "amd-epyc-1a-02-2-cores"."""
    text = (f"{description['cpu']} {description['family']:02x} "
            f"{description['model']:02x} {description['cores']} cores")
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def commit(root):
    git = lambda *args: subprocess.run(
        ["git", "-C", root, *args], capture_output=True, text=True,
        check=False).stdout.strip()
    dirty = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if dirty else "")
