# Pack what container images need of the machine's Debian: nft with its libraries for
# kube-proxy, and busybox.
set -eu
cd "$1"
libraries=$(ldd /usr/sbin/nft | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }')
tar --dereference -C / -cf nft.tar usr/sbin/nft $(echo "$libraries" | sed 's|^/||')
tar --dereference -C / -cf busybox.tar usr/bin/busybox
busybox --list >applets
dpkg-query -W -f '${source:Upstream-Version}' busybox-static >busybox-version
chmod 644 nft.tar busybox.tar applets busybox-version
