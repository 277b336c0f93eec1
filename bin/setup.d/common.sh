# Messages and small tools of bin/setup. Everything goes to stderr: callers use stdout themselves.

log_file=.cache/setup.log
step=0
steps=0

say() {
  printf 'setup: %s\n' "$*" >&2
}

# Counts a step; its line appears only when it has something to do.
next_step() {
  step=$((step + 1))
  step_name=$1
}

progress() {
  say "[$step/$steps] $step_name: $*"
}

# die <what is wrong> [<how to fix it>...]
die() {
  say "error: $1"
  shift
  local line
  for line in "$@"; do printf '       %s\n' "$line" >&2; done
  exit 1
}

# Runs a command quietly; when it fails, its last lines tell why.
logged() {
  if "$@" </dev/null >"$log_file" 2>&1; then return 0; fi
  logged_tail
  return 1
}

# What npm prints about its own usage tells nobody anything.
logged_tail() {
  sed '/^npm error Usage:/,$d' "$log_file" | tail -n 15 | sed 's/^/  | /' >&2
}

# write_file <path> <content>: whole or not at all
write_file() {
  mkdir -p "$(dirname "$1")"
  printf '%s\n' "$2" >"$1.new"
  chmod 0644 "$1.new"
  mv "$1.new" "$1"
}

# words <line>...: the first words of a list that can be long
words() {
  if (($# > 4)); then echo "${*:1:3} ... ($# packages)"; else echo "$*"; fi
}
