# Sourced by the scripts in this folder: messages, the cache folder, downloads checked by hash. Talk goes to stderr.
# shellcheck shell=bash

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${KVMERGER_CACHE:-${XDG_CACHE_HOME:-${HOME:?set it, or XDG_CACHE_HOME}/.cache}/kvmerger}
me=${0##*/}

say() { printf '%s [%4d s] %s\n' "$me" "$SECONDS" "$*" >&2; }
die() { printf '%s: error: %s\n' "$me" "$*" >&2; exit 1; }

# A folder for unfinished things, removed when the script ends; in the cache, so that a rename out of it is atomic.
temporary_folder() { mkdir -p "$cache"; mktemp -d "$cache/unfinished.$$.XXXXXX"; }
trap 'rm -rf "$cache/unfinished.$$".*' EXIT

need() {  # need COMMAND...: stops unless every command exists
  local command
  for command; do
    type -P "$command" >/dev/null || die "the command '$command' was not found; run tools/install_packages first"
  done
}

check_sha256() {  # check_sha256 FILE SHA256
  local actual
  actual=$(sha256sum "$1" | cut -d' ' -f1)
  [[ $actual == "$2" ]] || die "$1 has sha256 $actual, expected $2; delete that file and try again"
}

# pip_download FOLDER REQUIREMENT SHA256 [pip option...]: one file from the package index, refused if its hash differs.
pip_download() {
  local folder=$1 requirement=$2 sha256=$3 file
  shift 3
  python3 -m pip --version >/dev/null 2>&1 || die "python3 has no pip; run tools/install_packages first"
  python3 -m pip download -qq --disable-pip-version-check --no-cache-dir --no-deps --require-hashes "$@" -d "$folder" \
    -r <(echo "$requirement --hash=sha256:$sha256") >&2 ||
    die "pip could not download $requirement (sha256 $sha256) into $folder; its message is above. Check the network," \
      "the package index (pip config list) and the free space, then try again"
  file=$(find "$folder" -maxdepth 1 -type f)
  check_sha256 "$file" "$sha256"
  echo "$file"
}
