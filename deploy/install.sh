#!/bin/sh
# Installs the single file of Capibara after comparing its SHA-256 digest.
#
#   sh install.sh BASE_URL [FOLDER]
#
# BASE_URL holds `capibara-<machine>-linux` and `SHA256SUMS` of one release; FOLDER is ~/.local/bin unless it is given. Digest and file come from
# the same place: they tell damage. That the release is ours, its attestation tells (docs/shipping.md).
set -eu

say() { printf 'install: %s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

[ "$#" -ge 1 ] || fail "usage: sh install.sh BASE_URL [FOLDER]"
base=${1%/}
folder=${2:-$HOME/.local/bin}
[ "$(uname -s)" = Linux ] || fail "there is a file for Linux only; elsewhere, build from source"
file="capibara-$(uname -m)-linux"

if command -v curl > /dev/null; then
    fetch() { curl --fail --silent --show-error --location --output "$2" "$1"; }
elif command -v wget > /dev/null; then
    fetch() { wget --quiet --output-document "$2" "$1"; }
else
    fail "neither curl nor wget is there"
fi
command -v sha256sum > /dev/null || fail "sha256sum is not there, and without it nothing is installed"

mkdir -p "$folder"
work=$(mktemp -d "$folder/.capibara-install.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

fetch "$base/SHA256SUMS" "$work/SHA256SUMS" || fail "there is no $base/SHA256SUMS"
expected=$(awk -v file="$file" '$2 == file || $2 == "*" file { print $1 }' "$work/SHA256SUMS")
[ "${#expected}" -eq 64 ] || fail "SHA256SUMS names no digest for $file: there is no release for this machine"
fetch "$base/$file" "$work/capibara" || fail "there is no $base/$file"
found=$(sha256sum "$work/capibara" | cut -d ' ' -f 1)
[ "$found" = "$expected" ] || fail "$file has the digest $found and not $expected; it is not installed"
chmod 755 "$work/capibara"
"$work/capibara" --version > /dev/null || fail "the file does not run on this machine; it is not installed"
mv "$work/capibara" "$folder/capibara"
say "installed $("$folder/capibara" --version) as $folder/capibara"
case ":$PATH:" in
    *":$folder:"*) ;;
    *) say "hint: $folder is not in PATH" ;;
esac
