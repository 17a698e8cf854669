#!/usr/bin/env bash
# What the image's runtime stage holds is enough: installs the build as the
# Dockerfile does, makes it the root of a file system that has nothing else but
# libc, and serves the demo model from there, as another user, with an empty
# environment.
#
#   install_tree_test.sh BUILD_DIR SOURCE_DIR MODEL
set -euo pipefail
build=$1 source=$2 model=$3

root=$(mktemp -d "${TMPDIR:-/tmp}/descant-tree-XXXXXX")
server=""
finish() {
  if [ -n "$server" ]; then kill -KILL "$server" 2>/dev/null || true; fi
  rm -rf "$root"
}
trap finish EXIT
fail() {
  echo "install_tree_test: $*" >&2
  [ ! -e "$root/log" ] || cat "$root/log" >&2
  exit 1
}

"$source/deploy/docker/install_tree.sh" "$build" "$root/opt/descant"
grep -q '^libgrpc++' "$root/opt/descant/share/descant/debian-packages.txt" ||
  fail "the list of Debian packages lacks libgrpc++"

# libc, as debian:12-slim has it; and nothing of the machine besides.
mkdir -p "$root/lib64" "$root/lib/x86_64-linux-gnu" "$root/tmp" "$root/state"
cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
for name in c m dl rt pthread resolv; do
  for library in /lib/x86_64-linux-gnu/lib"$name".so.*; do
    cp -L "$library" "$root/lib/x86_64-linux-gnu/"
  done
done
ln "$model" "$root/model.gguf" 2>/dev/null || cp "$model" "$root/model.gguf"
cp -r "$source/deploy/demo/adapters/pirate" "$root/pirate"
chmod 0777 "$root" "$root/state"
chmod -R a+rX "$root/opt" "$root/pirate"

# in_tree COMMAND ...: inside; as uid 10001 where we are root, else as ourselves
# in a user namespace. The one variable of the environment tells libc where the
# program is, which it reads from /proc in a container.
enter=(env -i LD_ORIGIN_PATH=/opt/descant/bin)
if [ "$(id -u)" -eq 0 ]; then
  enter+=("$(command -v chroot)" --userspec=10001:10001 "$root")
else
  enter+=("$(command -v unshare)" --user --map-root-user
    "$(command -v chroot)" "$root")
fi
in_tree() { exec "${enter[@]}" "$@"; }

ports=$(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*[s.getsockname()[1] for s in held])')
read -r listen metrics <<<"$ports"

(in_tree /opt/descant/bin/descant-server --model=/model.gguf \
  --listen="127.0.0.1:$listen" --admin-listen=none \
  --metrics-listen="127.0.0.1:$metrics" \
  --adapter-dir=/state/adapters) >"$root/log" 2>&1 &
server=$!
descant() {
  (in_tree /opt/descant/bin/descant --target "127.0.0.1:$listen" "$@")
}
for _ in $(seq 300); do
  descant models >/dev/null 2>&1 && break
  kill -0 "$server" 2>/dev/null || { server=""; fail "the server ended"; }
  sleep 0.2
done
descant adapters upload pirate /pirate || fail "upload"
answer=$(descant generate --adapter pirate --temperature 0 --json \
  --prompt 'Formal: Hello, my friend found the money at sea.
Pirate:') || fail "generate"
echo "$answer" | grep -q Ahoy || fail "another answer: $answer"
if [ "$(id -u)" -eq 0 ]; then
  [ "$(stat -c %u "$root/state/adapters")" = 10001 ] || fail "the wrong user"
fi
# Every library it has open is the tree's own.
if [ "$(id -u)" -eq 0 ]; then
  opened=$(grep -o '/[^ ]*\.so[.0-9]*$' "/proc/$server/maps" | sort -u)
  echo "$opened" | grep -q "^$root/opt/descant/lib/descant/libtorch_cpu" ||
    fail "libtorch_cpu is not the tree's"
  ! echo "$opened" | grep -v "^$root/" || fail "a library from outside"
fi
kill -TERM "$server"
wait "$server" || fail "exit code $? after SIGTERM"
server=""
echo "served from $(du -sh "$root/opt" | cut -f1)"
