#!/usr/bin/env bash
# The tour of the README as a script: shows each call and its answer. Start the service first, with `make run`.
set -euo pipefail

URL=${URL:-http://127.0.0.1:8080}

# Shows a command, and runs it.
show() {
    printf '$ %s\n' "$*" >&2
    "$@"
}

show curl -sS -X POST "$URL/v1/users/alice/connect"
show curl -sS -X POST "$URL/v1/users/alice/ping"
show curl -sS "$URL/v1/users/alice"
show curl -sS "$URL/v1/online" -H 'Content-Type: application/json' -d '{"userIds":["alice","bob"]}'
show curl -sS -X POST "$URL/v1/users/alice/disconnect"

# A user with a phone and a laptop is online until the last of the two connections closes.
show curl -sS "$URL/v1/users/bob/connect" -d '{"connectionId":"phone"}'
show curl -sS "$URL/v1/users/bob/connect" -d '{"connectionId":"laptop"}'
show curl -sS "$URL/v1/users/bob/disconnect" -d '{"connectionId":"phone"}'
show curl -sS "$URL/v1/users/bob"

# All users that are online, as a stream begins; it is left after two seconds.
show curl -sSN --max-time 2 "$URL/v1/events?snapshot=true" || [ $? -eq 28 ]
