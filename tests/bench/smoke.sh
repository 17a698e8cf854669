#!/usr/bin/env bash
# A short W-base, W-mixed and W-file against the real server: valid answers, and
# not slower than half of what the full workloads must reach on two cores. A
# smoke test; figures come from `descant bench`.
#
#   smoke.sh DESCANT MODEL
set -euo pipefail
descant=$1 model=$2
# Output tokens a second of W-mixed: 600 with AMX, 170 without, halved.
floor=85
if grep -qw amx_bf16 /proc/cpuinfo; then floor=300; fi
if ! grep -qw avx512_bf16 /proc/cpuinfo; then floor=20; fi
"$descant" bench --compare W-base,W-mixed,W-file --requests 32 \
  --serve "$model" --json |
  python3 -c '
import json, sys
result = json.load(sys.stdin)
print(json.dumps(result, indent=1))
legs = {leg["name"]: leg for leg in result["legs"]}
mixed = legs["W-mixed"]["output_tokens_per_s"]["median"]
base = legs["W-base"]["output_tokens_per_s"]["median"]
file = legs["W-file"]["output_tokens_per_s"]["median"]
floor = float(sys.argv[1])
assert mixed >= floor, f"W-mixed {mixed:.0f} tokens/s, floor {floor:.0f}"
assert mixed >= 0.425 * base, f"W-mixed {mixed:.0f}, W-base {base:.0f}"
assert file >= 0.485 * mixed, f"W-file {file:.0f}, W-mixed {mixed:.0f}"
' "$floor"
