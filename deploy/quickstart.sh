#!/usr/bin/env bash
# From nothing to a mixed batch: installs, builds, starts the server with the
# demo model and the demo adapters, and sends one batch in which every request
# uses another adapter.
#
#   deploy/quickstart.sh [--once] [--no-apt] [--port N]
#
#   --once     stop after the demonstration (otherwise: stay until Ctrl-C)
#   --no-apt   the Debian packages are there already
#   --port     of the tenant listener (default 50051); the admin listener
#              takes the next one, metrics the one after
set -euo pipefail
cd "$(dirname "$0")/.."

once=0 port=50051 setup_options=(--no-tests)
while [ $# -gt 0 ]; do
  case "$1" in
    --once) once=1 ;;
    --no-apt) setup_options+=(--no-apt) ;;
    --port) port=${2:?--port needs a number}; shift ;;
    -h | --help) sed -n '2,12p' "$0" | cut -c3-; exit 0 ;;
    *) echo "quickstart: unknown option $1 (see --help)" >&2; exit 78 ;;
  esac
  shift
done

readonly model=.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf
readonly state=build/quickstart
readonly target=127.0.0.1:$port
readonly bin=build/release/bin

# What was compiled in another checkout counts as well.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

deploy/setup.sh "${setup_options[@]}"

echo "quickstart: building (the first time takes several minutes)"
mkdir -p build
cmake --preset release -DDESCANT_TESTS=OFF >build/quickstart.configure.log ||
  { cat build/quickstart.configure.log; exit 70; }
cmake --build --preset release --target descant-server descant

echo "quickstart: starting the server"
rm -rf "$state"
mkdir -p "$state/answers"
"$bin/descant-server" --model="$model" --listen="$target" \
  --admin-listen="127.0.0.1:$((port + 1))" \
  --metrics-listen="127.0.0.1:$((port + 2))" \
  --adapter-dir="$state/adapters" 2>"$state/server.log" &
server=$!
stop() {
  kill -TERM "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
}
trap stop EXIT
trap 'exit 0' INT TERM

for _ in $(seq 300); do
  "$bin/descant" --target "$target" models >/dev/null 2>&1 && break
  kill -0 "$server" 2>/dev/null || { cat "$state/server.log" >&2; exit 70; }
  sleep 0.2
done
"$bin/descant" --target "$target" models

for adapter in deploy/demo/adapters/*/; do
  "$bin/descant" --target "$target" adapters upload \
    "$(basename "$adapter")" "$adapter"
done
"$bin/descant" --target "$target" adapters list

echo
echo "One mixed batch: every adapter and the base model, all at once."
python3 - "$bin/descant" "$target" deploy/demo/prompts.json <<'PYTHON'
import json
import subprocess
import sys

descant, target, path = sys.argv[1:]
with open(path) as file:
    examples = json.load(file)


def ask(prompt, adapter, max_tokens):
    command = [descant, "--target", target, "generate", "--prompt", prompt,
               "--max-tokens", str(max_tokens), "--temperature", "0", "--json"]
    if adapter:
        command += ["--adapter", adapter]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


running = [(example, adapter, ask(example["prompt"], adapter,
                                  example["max_tokens"]))
           for example in examples for adapter in (example["adapter"], None)]
answers = {}
for example, adapter, process in running:
    out, _ = process.communicate()
    if process.returncode != 0:
        sys.exit("quickstart: a request failed")
    answers.setdefault(example["prompt"], {})[adapter] = json.loads(out)

different = 0
for example in examples:
    with_adapter = answers[example["prompt"]][example["adapter"]]
    base = answers[example["prompt"]][None]
    different += with_adapter["text"] != base["text"]
    show = lambda text: " ".join(text.split())[:100]
    print(f"\n  prompt        {show(example['prompt'])}")
    print(f"  base          {show(base['text'])}")
    print(f"  {example['adapter']:<13} {show(with_adapter['text'])}"
          f"   [{with_adapter['adapter_digest'][:19]}]")
if different < len(examples):
    sys.exit("quickstart: an adapter answered like the base model")
PYTHON

echo
echo "Server:  $target (gRPC, reflection on)"
echo "Metrics: http://127.0.0.1:$((port + 2))/metrics"
echo "Log:     $state/server.log"
echo "Try:     $bin/descant --target $target generate --adapter pirate --prompt 'Formal: Hello, my friend found the money at sea.
Pirate:'"
if [ "$once" -eq 0 ]; then
  echo "Ctrl-C stops the server."
  wait "$server"
fi
