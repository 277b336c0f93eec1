# Where Debian packages come from. Newer releases are taken from the mirror that the host itself uses.

# debian_archive <root>: the host's source of Debian's main archive, one a line: URI, suite, then Signed-By (may be
# empty, or many lines when the key itself is given). Fails when there is none.
debian_archive() {
  local found
  found=$(archive_candidates "$1" | sort -t $'\t' -k1,1nr -s | head -n 1)
  [[ -n $found ]] || return 1
  tr '\t\037' '\n\n' <<<"${found#*$'\t'}"
}

# One line for each source that could be it: score, URI, suite, Signed-By (line feeds as \037), separated by tabs.
archive_candidates() {
  local file
  for file in "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*.{list,sources}; do
    [[ -r $file && ${file##*/} != caisson.sources ]] || continue
    case $file in
      *.sources) deb822_entries <"$file" ;;
      *) one_line_entries <"$file" ;;
    esac
  done | score_entries
}

# deb822: paragraphs of fields, `#` lines are comments, lines that begin with a blank continue a field.
deb822_entries() {
  awk '
    function flush(   i, j, n, m, uris, suites) {
      if (f["types"] ~ /(^| )deb( |$)/ && tolower(f["enabled"]) !~ /^(no|false|0|off)$/) {
        n = split(f["uris"], uris, " "); m = split(f["suites"], suites, " ")
        for (i = 1; i <= n; i++) for (j = 1; j <= m; j++)
          printf "%s\t%s\t%s\t%s\n", uris[i], suites[j], f["components"], f["signed-by"]
      }
      split("", f); name = ""
    }
    /^#/ { next }
    /^[ \t]*$/ { flush(); next }
    /^[ \t]/ && name == "signed-by" { f[name] = f[name] "\037" $0; next }
    /^[ \t]/ { sub(/^[ \t]+/, " "); f[name] = f[name] $0; next }
    { at = index($0, ":"); name = tolower(substr($0, 1, at - 1)); value = substr($0, at + 1)
      gsub(/^[ \t]+|[ \t\r]+$/, "", value); f[name] = value }
    END { flush() }
  '
}

# deb [option=value ...] uri suite component...
one_line_entries() {
  awk '
    { sub(/#.*/, "") }
    $1 != "deb" { next }
    {
      signed = ""
      if (match($0, /\[[^]]*\]/)) {
        n = split(substr($0, RSTART + 1, RLENGTH - 2), options, " ")
        for (i = 1; i <= n; i++) if (sub(/^signed-by=/, "", options[i])) signed = options[i]
        $0 = substr($0, 1, RSTART - 1) " " substr($0, RSTART + RLENGTH)
      }
      components = ""
      for (i = 4; i <= NF; i++) components = components (i > 4 ? " " : "") $i
      printf "%s\t%s\t%s\t%s\n", $2, $3, components, signed
    }
  '
}

# Other archives have suites and components of the same names: Debian's key and path tell it from them.
score_entries() {
  awk -F '\t' '
    $2 !~ /^(bookworm|trixie|forky|sid|oldstable|stable|testing|unstable)$/ { next }
    $3 !~ /(^| )main( |$)/ || $1 ~ /security/ { next }
    {
      score = 0
      if ($4 == "" || $4 ~ /debian-archive/) score += 2
      if ($1 ~ /\/debian\/?$/) score += 1
      printf "%d\t%s\t%s\t%s\n", score, $1, $2, $4
    }
  '
}

# extra_suites <suite of the host>: the suites to add to it
extra_suites() {
  case $1 in
    bookworm | oldstable) echo 'trixie sid' ;;
    sid | unstable) echo '' ;;
    *) echo 'sid' ;;
  esac
}

# sources_text <URI> <suites> <Signed-By>
sources_text() {
  local signed=$3
  local default=/usr/share/keyrings/debian-archive-keyring.gpg
  [[ -n $signed || ! -r $default ]] || signed=$default
  printf '# Written by bin/setup of caisson; priorities are in /etc/apt/preferences.d/caisson.\n'
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$1" "$2"
  [[ -z $signed ]] || printf 'Signed-By: %s\n' "$signed"
}

# pins_text <suites>: nothing is upgraded to them by itself
pins_text() {
  local suite priority
  for suite in $1; do
    if [[ $suite == sid ]]; then priority=50; else priority=100; fi
    printf 'Package: *\nPin: release n=%s\nPin-Priority: %d\n\n' "$suite" "$priority"
  done
}
