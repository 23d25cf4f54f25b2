#!/bin/sh
# Brings what some tests need: Redis, PostgreSQL, Chromium and SoftHSM2. Uses what is there; installs Debian's packages where
# that is possible (root on Debian); otherwise says by name what will be skipped. Writes tests/services.env.
set -u
cd "$(dirname "$0")/.."
out=tests/services.env
: > "$out"
missing=""
have() { command -v "$1" >/dev/null 2>&1; }
have redis-server || missing="$missing redis-server"
have psql || missing="$missing postgresql"
have softhsm2-util || missing="$missing softhsm2"
have chromium || have chromium-browser || have google-chrome || missing="$missing chromium"
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && have apt-get; then
    echo "Installing for the tests:$missing"
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing) \
      >/dev/null 2>&1 || echo "Could not install:$missing"
  else
    echo "Not here and not installable without root on Debian:$missing; their tests will be skipped by name."
  fi
fi
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[ -n "$browser" ] && echo "export TEST_CHROMIUM=$browser" >> "$out"
# A server that already answers on its usual local port is used; the tests keep to a database of their own.
if [ -n "${TEST_REDIS_URL:-}" ]; then echo "export TEST_REDIS_URL=$TEST_REDIS_URL" >> "$out"
elif have redis-cli && [ "$(redis-cli -h 127.0.0.1 ping 2>/dev/null)" = PONG ]; then
  echo "export TEST_REDIS_URL=redis://127.0.0.1:6379/13" >> "$out"
fi
if [ -n "${TEST_POSTGRES_URL:-}" ]; then echo "export TEST_POSTGRES_URL=$TEST_POSTGRES_URL" >> "$out"
else
  user=$(id -un)
  if have pg_isready && pg_isready -q -h 127.0.0.1 2>/dev/null && psql -h 127.0.0.1 -U "$user" -d postgres -qc 'select 1' >/dev/null 2>&1; then
    echo "export TEST_POSTGRES_URL=postgresql://$user@127.0.0.1:5432/postgres" >> "$out"
  fi
fi
for name in TEST_CHROMIUM TEST_REDIS_URL TEST_POSTGRES_URL; do
  grep -q "$name" "$out" || echo "Skipped for want of a server or program: tests that need $name"
done
have softhsm2-util || echo "Skipped for want of SoftHSM2: tests of keys in a PKCS#11 token"
exit 0
