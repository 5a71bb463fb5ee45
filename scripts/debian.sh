# A bare Debian in a folder, for dist and test-accelerator: sourced by both, which have `say` and `fail`.
debian_keys=/usr/share/keyrings/debian-archive-keyring.gpg
make_debootstrap() {  # SUITE FOLDER [package,…]
  [ "$(id -u)" = 0 ] || fail "debootstrap needs root"
  if ! command -v debootstrap >/dev/null || [ ! -e $debian_keys ]; then
    say "installing debootstrap with apt-get"
    apt-get update -qq >&2
    apt-get install -y -qq debootstrap debian-archive-keyring >&2
  fi
  say "making a Debian $1 in ${2#"$PWD/"}"
  rm -rf "$2.part"
  debootstrap --variant=minbase --keyring=$debian_keys --force-check-gpg ${3:+--include="$3"} "$1" "$2.part" http://deb.debian.org/debian > "$2.log" 2>&1 \
    || { tail -n 5 "$2.log" >&2; fail "debootstrap failed"; }
  mv "$2.part" "$2"
  rm -f "$2.log"
}
