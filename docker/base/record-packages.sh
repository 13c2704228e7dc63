#!/bin/sh
# mmdebstrap's extract hook (argument: the root folder): writes the list of packages that dpkg would keep. Scanners and the bill of
# materials read from it what is inside.
set -eu
for package in "$1"/var/cache/apt/archives/*.deb; do
    dpkg-deb --field "$package"
    printf 'Status: install ok installed\n\n'
done > "$1/var/lib/dpkg/status"
