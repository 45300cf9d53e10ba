#!/bin/sh
# What becomes of this machine, as an overlay shows it that is gone with this script, when the packages are installed,
# started, upgraded, removed and purged. Given: a folder, the package, a later one, headquarters' keys. Inside namespaces
# of its own, so that mounts and processes go with it.
set -eu
work=$1 package=$2 later=$3 keys=$4
plant=/var/lib/plantlink

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
mount -t proc proc "$work/root/proc"
mount --rbind /dev "$work/root/dev"
mount -t tmpfs tmpfs "$work/root/tmp"
mount -t tmpfs tmpfs "$work/root/run"
cp "$package" "$work/root/tmp/first.deb" && cp "$later" "$work/root/tmp/later.deb"
cp "$keys/public.pem" "$keys/update_public.pem" "$work/root/tmp/"

inside() {
    chroot "$work/root" env PLANTLINK_AGENT_PORT=0 PLANTLINK_PORTAL_PORT=0 PLANTLINK_METRICS_PORT=0 "$@"
}
package_manager() {
    inside dpkg "$@" > "$work/said" 2>&1 || { cat "$work/said" >&2; fail "dpkg $*"; }
}
wait_for() {
    what=$1
    shift
    for _ in $(seq 600); do
        if "$@"; then return; fi
        sleep 0.1
    done
    inside plantlink status >&2 || true
    fail "waited in vain for $what"
}
runs() {
    inside plantlink status --json 2>/dev/null | grep -q "\"name\":\"$1\",\"pid\":[0-9]*,\"state\":\"running\""
}

echo "== install"
package_manager -i /tmp/first.deb
grep -q "reset-pin" "$work/said" || fail "says nothing of the PIN"
! grep -Eq "PIN is [0-9]" "$work/said" || fail "a PIN stands in apt's log"
inside test -e $plant/state/boot || fail "there is no install root"
inside test -L /etc/systemd/system/multi-user.target.wants/plantlink.service || fail "it would not start with the machine"
inside systemd-analyze verify /etc/systemd/system/plantlink.service || fail "systemd finds fault with the unit"
! inside /usr/lib/plantlink/watchdog service uninstall --root /srv/other 2> "$work/said" || fail "somebody else's service was removed"
grep -q "another install root" "$work/said" || fail "does not say whose service it is: $(cat "$work/said")"
inside getent passwd plantlink-collector plantlink-agent plantlink-portal >/dev/null || fail "users are missing"

echo "== start, and take up headquarters' key"
inside plantlink reset-pin --pin 4829 >/dev/null
inside plantlink run --users plantlink > "$work/run" 2>&1 &
launcher=$!
wait_for "collector and portal" runs collector
wait_for "collector and portal" runs portal
inside cp /tmp/update_public.pem $plant/config/update_public.pem
inside cp /tmp/public.pem $plant/config/server_public.pem
wait_for "the agent, once there is a key" runs agent
inside plantlink check-config || fail "the configuration as it was laid out has mistakes"
inside sh -c 'ps -o user= -C collector' | grep -q plantlink || fail "the collector runs as root"

echo "== upgrade: a plant that runs is not disturbed"
pids() {
    inside plantlink status --json | grep -o '"pid":[0-9]*'
}
before=$(pids)
package_manager -i /tmp/later.deb
[ "$(pids)" = "$before" ] || fail "programs were restarted"
[ "$(inside dpkg-query --show --showformat '${Version}' plantlink)" = 0.1.1 ] || fail "dpkg knows another version"
# The launcher in its chroot, whose standard input is not ours to close.
inside sh -c 'kill -TERM "$(ps -o pid= -C watchdog | head -n 1)"'
wait "$launcher" || fail "the launcher did not end well: $(cat "$work/run")"

echo "== remove: data stays"
pin=$(inside cat $plant/config/credentials.env)
package_manager -r plantlink
inside test ! -e /etc/systemd/system/plantlink.service || fail "the unit is left"
inside test ! -e /usr/lib/plantlink || fail "programs are left"
inside test -e $plant/data/plant.db || fail "the readings are gone"
package_manager -i /tmp/later.deb
[ "$(inside cat $plant/config/credentials.env)" = "$pin" ] || fail "what was set is gone"

echo "== purge: nothing stays"
package_manager -P plantlink
left=$(cd "$work/upper" && find . -name '*plantlink*' -not -path './tmp/*' -not -path './var/log/*' -not -path './run/*' -not -type c)
[ -z "$left" ] || fail "left behind: $left"
! inside grep -q plantlink /etc/passwd /etc/group || fail "users are left"
