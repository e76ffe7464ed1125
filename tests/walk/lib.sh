# What every walk shares: a line per check, and the count at the end.
# Each check is a command; it passes when the command does.
set -u
passed=0 failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ok() { passed=$((passed + 1)); printf 'ok      %s\n' "$*"; }
no() { failed=$((failed + 1)); printf 'FAILED  %s\n' "$*"; }

# check WHAT COMMAND…: passes when COMMAND succeeds
check() {
  local what=$1; shift
  if "$@" >"$work/out" 2>&1; then ok "$what"; else no "$what: $(tail -n 3 "$work/out" | tr '\n' ' ' | cut -c1-400)"; fi
}

# refused WHAT PATTERN COMMAND…: passes when COMMAND fails and says PATTERN
refused() {
  local what=$1 pattern=$2; shift 2
  if "$@" >"$work/out" 2>&1; then no "$what: it was accepted"
  elif grep -qiE "$pattern" "$work/out"; then ok "$what"
  else no "$what: $(tail -n 3 "$work/out" | tr '\n' ' ' | cut -c1-400)"; fi
}

# becomes SECONDS WANTED COMMAND…: passes when COMMAND prints WANTED within SECONDS; an error state ends the wait
becomes() {
  local end=$((SECONDS + $1)) wanted=$2 got=; shift 2
  while [ $SECONDS -lt $end ]; do
    got=$("$@" 2>/dev/null)
    [ "$got" = "$wanted" ] && return 0
    case $got in error* | ERROR*) break ;; esac
    sleep 0.5
  done
  echo "it is '$got', not '$wanted'"; return 1
}

finish() { printf '%s passed, %s failed\n' "$passed" "$failed"; [ "$failed" = 0 ]; }
