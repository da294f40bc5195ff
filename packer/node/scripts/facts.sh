# Tell in $1/facts what the machine is, a line each: user id, architecture, distribution
# and release, then the packages of $2 that are missing.
set -eu
stage=$1
(
  id -u
  uname -m
  . /etc/os-release
  echo "$ID $VERSION_ID"
  for package in $2; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
) >"$stage/facts"
