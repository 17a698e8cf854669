#!/usr/bin/env bash
# Installs a build into a folder that runs on its own: the binaries, and every
# shared library they need but libc's.
#
#   deploy/docker/install_tree.sh BUILD_DIR PREFIX
#
# The binaries look for libraries in PREFIX/lib/descant first, wherever PREFIX
# is moved to. Debian's libraries are copied with their versions recorded in
# PREFIX/share/descant/debian-packages.txt.
set -euo pipefail

build=${1:?install_tree: needs BUILD_DIR and PREFIX}
prefix=${2:?install_tree: needs BUILD_DIR and PREFIX}
readonly build prefix
readonly libraries=$prefix/lib/descant

cmake --install "$build" --prefix "$prefix" --strip >/dev/null
mkdir -p "$libraries" "$prefix/share/descant"

# name and path of every library of the binaries, but libc's own, which come
# with the system that runs them.
needed() {
  # A build's own libraries must not come out of a tree installed before.
  ldd "$build/bin/descant-server" "$build/bin/descant" |
    awk '$2 == "=>" { print $1, $3 }' | sort -u |
    grep -Ev '^(ld-linux-x86-64|libc|libm|libdl|librt|libpthread|libresolv)\.so'
}

packages=()
while read -r name path; do
  if [ "$path" = not ]; then
    echo "install_tree: $name is not found" >&2
    exit 70
  fi
  install -m 0644 "$(readlink -f "$path")" "$libraries/$name"
  # Merged /usr: the package may know the file by its older path.
  package=$(dpkg-query -S "$(readlink -f "$path")" 2>/dev/null ||
    dpkg-query -S "${path#/usr}" 2>/dev/null || true)
  if [ -n "$package" ]; then packages+=("${package%%:*}"); fi
done < <(needed)

dpkg-query -W -f='${Package} ${Version}\n' "${packages[@]}" | sort -u \
  >"$prefix/share/descant/debian-packages.txt"
du -sh "$prefix" | cut -f1
