#!/bin/sh
# Run on the packages that mmdebstrap extracted (argument: the root folder). The variant "extract" runs no package script, so this
# makes what they would have made, and removes what a program that is alone in its container never reads: shells among them.
set -eu
root=$1

mkdir -p "$root/etc/ssl/certs" "$root/tmp" "$root/home/nonroot"
find "$root/usr/share/ca-certificates" -name '*.crt' -print0 | LC_ALL=C sort -z | xargs -0 cat > "$root/etc/ssl/certs/ca-certificates.crt"

# The same numbers as in distroless: 65532 is nobody's on the host.
printf '%s\n' 'root:x:0:0:root:/root:/sbin/nologin' 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' > "$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'nonroot:x:65532:' > "$root/etc/group"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
chown 65532:65532 "$root/home/nonroot"
chmod 1777 "$root/tmp"

# /var/lib/dpkg/status stays: scanners read from it which packages, of which versions, are inside.
rm -rf "$root/etc/apt" "$root/var/lib/apt" "$root"/var/cache/* "$root"/var/log/* "$root/var/lib/dpkg/info" \
    "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/locale" "$root/usr/share/lintian" "$root/usr/share/info" \
    "$root/usr/share/ca-certificates" "$root"/usr/lib/*-linux-gnu/gconv "$root"/usr/bin/* "$root"/usr/sbin/* "$root"/bin/* "$root"/sbin/*
