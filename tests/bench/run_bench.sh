#!/usr/bin/env bash
# `descant run` on 1,000 lines against the same load sent by the bench (W-mixed),
# in interleaved pairs on one server: at least 0.97 of its rate. For a quiet
# machine.
#
#   run_bench.sh DESCANT MODEL [PAIRS]
set -euo pipefail
descant=$1 model=$2 pairs=${3:-3}
"$descant" bench --compare W-mixed,W-file --pairs "$pairs" --serve "$model" \
  --json |
  python3 -c '
import json, sys
result = json.load(sys.stdin)
print(json.dumps(result, indent=1))
ratio = result["legs"][1]["ratio"]["median"]
assert ratio >= 0.97, f"W-file is {ratio:.3f} of W-mixed"
'
