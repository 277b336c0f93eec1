# The npm packages, Node 24 among them. Works with the npm of Debian 12 (npm 9 on Node 18) and newer.

npm_stamp=node_modules/.caisson-setup

# npm 11 refuses a lock file made where the registry lacks other platforms' optional packages. npm install then takes
# the same versions with the same checksums, and leaves the lock file as it is.
install_npm_packages() {
  npm ci --include=dev </dev/null >"$log_file" 2>&1 && return 0
  grep -q 'from lock file' "$log_file" || { logged_tail; return 1; }
  progress 'npm ci refused the lock file; trying npm install'
  logged npm install --no-save --include=dev
}

step_npm() {
  next_step 'npm packages'
  local wanted
  wanted=$(sha256sum <package-lock.json)
  [[ -x node_modules/.bin/node && -r $npm_stamp && $(<"$npm_stamp") == "$wanted" ]] && return 0

  [[ $(uname -sm) == 'Linux x86_64' ]] || die "caisson runs on Linux on x86-64 only; this is $(uname -sm)"
  command -v npm >/dev/null || die 'npm is not installed' 'apt-get install npm'
  progress 'installing (npm ci)'
  # dev packages always: tests, type check and the image's bundle need them
  install_npm_packages || die 'the npm packages could not be installed; the last lines of npm are above' \
    "whole output: $repo/$log_file" \
    'npm must reach its registry: `npm config get registry` shows which, `npm ping` tries it'
  logged node_modules/.bin/node --version || die 'the Node that npm installed does not run here' \
    'it needs Linux on x86-64 with glibc 2.28 or newer'
  printf '%s\n' "$wanted" >"$npm_stamp"
}
