#!/bin/sh
# Writes the configuration of this container, then runs nginx: start.sh monolith|services [reload]
#
# With `reload`, the nginx that runs loads it instead, and completes its requests. If the
# configuration is wrong, nginx keeps the earlier one.
set -eu
case ${PROXIES:-1} in
  0* | *[!0-9]*)
    echo "front: PROXIES=$PROXIES in docker/.env must be at least 1, because nginx is a proxy: with" \
      "0, all clients would have nginx's address and share its limits" >&2
    exit 1
    ;;
esac
https=$(echo "${HTTPS:-off}" | tr '[:upper:]' '[:lower:]')
case $https:${PROXIES:-1} in
  on:1 | true:1 | yes:1 | 1:1)
    echo "front: HTTPS=$HTTPS needs PROXIES=2 (nginx and the proxy for TLS in front of it), not" \
      "${PROXIES:-1}: every page would redirect to itself" >&2
    exit 1
    ;;
esac
case $* in
  monolith | services | "monolith reload" | "services reload") ;;
  *) echo "usage: start.sh monolith|services [reload]" >&2; exit 2 ;;
esac
conf=/etc/nginx/conf.d
cp "/nginx/$1.conf" "$conf/default.conf"
# nginx resolves names with the container's resolver at run time, because the addresses of recreated
# containers change.
awk '/^nameserver/ { print "resolver " $2 " valid=1s ipv6=off;"; exit }' /etc/resolv.conf \
  >"$conf/resolver.conf"
# Only a proxy in front of nginx, which PROXIES counts, knows whether the client uses HTTPS, and may
# have given the request an id. Without it, any client could send these headers.
if [ "${PROXIES:-1}" -gt 1 ]; then
  echo 'map $http_x_forwarded_proto $forwarded_proto { default $scheme; https https; }'
  echo 'map $http_x_request_id $kept_request_id { default $request_id; "~^[0-9a-f]{32}$" $http_x_request_id; }'
  echo 'map "" $kept_traceparent { default $http_traceparent; }'
else
  echo 'map "" $forwarded_proto { default $scheme; }'
  echo 'map "" $kept_request_id { default $request_id; }'
  echo 'map "" $kept_traceparent { default ""; }'
fi >"$conf/forwarded.conf"
nginx="nginx -e /dev/stderr -c /nginx/nginx.conf"
if [ $# = 2 ]; then
  $nginx -q -t
  exec $nginx -s reload
fi
exec $nginx -g 'daemon off;'
