# What the host needs beyond packages. Missing modules are never fatal: `caisson doctor` says what they cost.

step_kernel_modules() {
  next_step 'kernel modules'
  ((EUID == 0)) || return 0
  [[ -c /dev/net/tun ]] || modprobe -q tun 2>/dev/null || true
  [[ -c /dev/vhost-vsock ]] || modprobe -q vhost_vsock 2>/dev/null || true
}

step_cni() {
  next_step 'pod network'
  local directory=/etc/cni/net.d
  if has_cni_config "$directory"; then return 0; fi
  ((EUID == 0)) || { say "warning: no CNI configuration in $directory; run bin/setup as root for one"; return 0; }
  local subnet
  subnet=$(free_subnet)
  progress "no CNI configuration yet: writing $directory/99-caisson.conflist (bridge caisson0, $subnet)"
  say '      delete it when your cluster brings its own'
  write_file "$directory/99-caisson.conflist" "$(cni_text "$subnet")"
}

has_cni_config() {
  compgen -G "$1/*.conflist" >/dev/null || compgen -G "$1/*.conf" >/dev/null || compgen -G "$1/*.json" >/dev/null
}

# The first of our candidates that no other interface has; podman's default is the first one, too.
free_subnet() {
  local net
  for net in 10.88 10.89 10.90 10.91; do
    if ! ip -4 -o address show 2>/dev/null | grep -v ' caisson0 ' | grep -qF " $net."; then break; fi
  done
  echo "$net.0.0/16"
}

cni_text() {
  cat <<JSON
{
  "cniVersion": "1.0.0",
  "name": "caisson",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "caisson0",
      "isGateway": true,
      "ipMasq": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{ "subnet": "$1" }]],
        "routes": [{ "dst": "0.0.0.0/0" }]
      }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
JSON
}

# Builds only when its inputs have changed, and reports its own progress.
step_guest_image() {
  next_step 'guest image'
  bin/caisson image build >&2 || die 'the guest image could not be built; the reason is above' \
    "try it by hand: $repo/bin/caisson image build"
  bin/caisson template build >&2 || say 'warning: no VM template; pods will boot instead of being cloned'
}
