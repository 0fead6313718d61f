#!/bin/sh
# Writes the configuration of this container, then runs nginx: start.sh monolith|services
set -eu
conf=/etc/nginx/conf.d
cp "/nginx/$1.conf" "$conf/default.conf"
# nginx resolves names with the container's resolver at run time, because the addresses of recreated
# containers change.
awk '/^nameserver/ { print "resolver " $2 " valid=5s ipv6=off;"; exit }' /etc/resolv.conf \
  >"$conf/resolver.conf"
# Only a proxy in front of nginx, which PROXIES counts, knows whether the client uses HTTPS. Without
# it, any client could send the header.
if [ "${PROXIES:-1}" -gt 1 ]; then
  echo 'map $http_x_forwarded_proto $forwarded_proto { default $scheme; https https; }'
else
  echo 'map "" $forwarded_proto { default $scheme; }'
fi >"$conf/forwarded.conf"
exec nginx -g 'daemon off;'
