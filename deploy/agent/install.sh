#!/bin/sh
# Installs, upgrades and removes kaimon-agent from a release. Nothing of the release runs before it is verified.
set -eu

# script/package-agent puts in the version and the public key of the release; before that, it trusts nobody.
version=UNSET
pinned_key() {
    cat <<'END'
UNSET-KEY
END
}

usage() {
    cat <<'END'
install.sh --server URL [OPTION]...      install or upgrade kaimon-agent, enroll this host, start
install.sh --uninstall [--keep|--purge]  remove it; asks about settings and credential unless told

  --server URL      ingest, https only; not needed where there are settings already
  --ca FILE         certificate authorities of ingest (PEM); the system's if not given
  --from DIR|URL    where the release is: a folder or an https address (default: the folder of this script)
  --mirror-ca FILE  certificate authorities of that address
  --token-stdin     the enrollment token is on standard input (default: asked for on the terminal)
  --no-enroll       install only; start nothing
  --no-start        enroll, but start nothing
  --key PUB         trust this public key (PEM) instead of the one in this script
  --version V       install this version of the release instead of this script's
  --root DIR        install into a tree that is not this machine's; starts nothing

The token is taken from no argument and no variable, and is kept nowhere.
END
}

say() { printf 'install.sh: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}
wrong() {
    say "$*; see --help"
    exit 2
}
has() { command -v "$1" >/dev/null 2>&1; }
systemd() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# clean: what an install that failed leaves behind: nothing.
stage='' draft='' new_state=''
clean() {
    rm -rf ${stage:+"$stage"} ${draft:+"$draft"} ${new_state:+"$new_state"}
    [ -z "$draft" ] || rmdir "${draft%/*}" 2>/dev/null || true
}

# fetch NAME: one file of the release into the stage.
fetch() {
    case $from in
    https://*)
        if has curl; then
            # -q, and first: no .curlrc may say otherwise.
            curl -q --fail --silent --show-error --location --proto '=https' --proto-redir '=https' --tlsv1.2 \
                --max-filesize 67108864 --max-time 600 ${mirror_ca:+--cacert "$mirror_ca"} \
                --output "$stage/$1" "$from/$1" || fail "cannot fetch $from/$1"
        elif has wget && wget --version 2>/dev/null | grep -q '^GNU Wget'; then
            wget --no-config --quiet --https-only --secure-protocol=TLSv1_2 --timeout=60 --tries=3 \
                ${mirror_ca:+--ca-certificate="$mirror_ca"} --output-document="$stage/$1" "$from/$1" ||
                fail "cannot fetch $from/$1"
        else
            fail "fetching needs curl or GNU wget"
        fi
        ;;
    *) cp "$from/$1" "$stage/$1" || fail "no $1 in $from" ;;
    esac
}

# fetch_listed NAME: the same, and it must be the very file that the signed list names.
fetch_listed() {
    listed=$(awk -v name="$1" '$2 == name { print $1 }' "$stage/SHA256SUMS")
    [ -n "$listed" ] || fail "the release has no $1"
    fetch "$1"
    [ "$(sha256sum <"$stage/$1" | cut -d ' ' -f 1)" = "$listed" ] || fail "refused: $1 is not what was signed"
}

verify_list() {
    openssl pkeyutl -help 2>&1 | grep -q -e -rawin || fail "verifying needs OpenSSL 3"
    fetch SHA256SUMS
    fetch SHA256SUMS.sig
    said=$(openssl pkeyutl -verify -pubin -inkey "$stage/key" -rawin -in "$stage/SHA256SUMS" \
        -sigfile "$stage/SHA256SUMS.sig" 2>/dev/null) || said=
    [ "$said" = "Signature Verified Successfully" ] ||
        fail "refused: SHA256SUMS is not signed by the key that is trusted"
}

packaged() {
    { has dpkg-query && dpkg-query -W -f '${Status}' kaimon-agent 2>/dev/null | grep -q ' installed$'; } ||
        { has rpm && rpm -q kaimon-agent >/dev/null 2>&1; }
}

# draft_settings: the release's own, with the server and the authorities; what is there already stays. They lie in
# their own folder, for the agent takes none that others could have written.
draft_settings() {
    [ -d "${settings%/*}" ] || mkdir -p "${settings%/*}"
    draft=$(mktemp -d "${settings%/*}/.kaimon-agent.XXXXXX")
    if [ -e "$settings" ]; then
        [ -z "$server" ] || grep -qxF "server: $server" "$settings" ||
            fail "$settings names another server than $server: change it there, then run this without --server"
        [ -z "$ca" ] || grep -qxF "ca_file: /etc/kaimon/ca.pem" "$settings" ||
            fail "$settings lacks the line ca_file: /etc/kaimon/ca.pem, without which --ca does nothing"
        cp -p "$settings" "$draft/agent.yaml"
    else
        [ -n "$server" ] || wrong "--server is needed"
        awk -v server="$server" -v ca="$ca" '
            /^server: / { print "server: " server; set++; next }
            /^#ca_file: / && ca != "" { print "ca_file: /etc/kaimon/ca.pem"; set++; next }
            { print }
            END { exit set != (ca == "" ? 1 : 2) }
        ' "$stage/agent.yaml" >"$draft/agent.yaml" || fail "this script does not know the settings of this release"
        chmod 640 "$draft/agent.yaml"
    fi
    "$stage/agent" settings --config "$draft/agent.yaml" >"$draft/said" || fail "the settings cannot be used"
    grep -qxF "state_dir: /var/lib/kaimon-agent" "$draft/said" ||
        fail "$settings names a state_dir that this script does not know: it must be /var/lib/kaimon-agent"
}

# enroll: with the verified binary, before anything is installed: a token that is refused leaves no trace.
enroll() {
    [ -e "$state" ] || new_state=$state
    mkdir -p "${state%/*}"
    set -- enroll --config "$draft/agent.yaml" --state-dir "$state"
    if [ -n "$ca" ]; then
        set -- "$@" --ca "$stage/ca.pem"
    elif [ -n "$root" ] && grep -qxF "ca_file: /etc/kaimon/ca.pem" "$draft/agent.yaml"; then
        set -- "$@" --ca "$root/etc/kaimon/ca.pem"
    fi
    set -- "$@" --token-file -
    if [ "$token_stdin" = yes ]; then
        "$stage/agent" "$@" || fail "not enrolled; nothing is installed"
    else
        (: </dev/tty) 2>/dev/null || fail "there is no terminal to ask for the token: use --token-stdin or --no-enroll"
        "$stage/agent" "$@" </dev/tty || fail "not enrolled; nothing is installed"
    fi
    [ -e "$state/credential.json" ] || fail "not enrolled; nothing is installed"
    new_state=''
}

# place FILE PATH MODE: whole or not at all.
place() {
    mkdir -p "${2%/*}"
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    mv -f "$2.new" "$2"
}

install() {
    case $from in
    https://*) ;;
    *://*) wrong "--from must be a folder or begin with https://" ;;
    *) [ -d "$from" ] || wrong "there is no folder $from" ;;
    esac
    case $server in
    '' | https://?*) ;;
    *) wrong "--server must begin with https://" ;;
    esac
    case $server in *[!][A-Za-z0-9.:/_~%-]*) wrong "--server has odd characters" ;; esac
    case $(uname -m) in
    x86_64 | amd64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) fail "there is no kaimon-agent for $(uname -m)" ;;
    esac
    has openssl || fail "verifying needs openssl"
    if [ -z "$root" ] && packaged; then
        fail "kaimon-agent is here as a package: upgrade it as one"
    fi

    mkdir -p "$bin"
    stage=$(mktemp -d "$bin/.kaimon-agent.XXXXXX") # where programs may run, which /tmp may forbid
    if [ -n "$key" ]; then cp "$key" "$stage/key"; else pinned_key >"$stage/key"; fi
    grep -q '^-----BEGIN PUBLIC KEY-----$' "$stage/key" || wrong "this script trusts no key: name one with --key"
    [ "$version" != UNSET ] || wrong "this script belongs to no release: name one with --version"

    verify_list
    binary=kaimon-agent-$version-linux-$arch
    fetch_listed "$binary"
    fetch_listed agent.yaml
    fetch_listed kaimon-agent.service
    say "verified: kaimon-agent $version, signed by the key $(openssl pkey -pubin -in "$stage/key" -outform DER |
        sha256sum | cut -d ' ' -f 1)"
    mv "$stage/$binary" "$stage/agent"
    chmod 755 "$stage/agent"

    [ -z "$ca" ] || cp "$ca" "$stage/ca.pem" || fail "no $ca"
    draft_settings
    if [ -z "$root" ]; then
        "$stage/agent" probe >"$stage/probe" || fail "$(cat "$stage/probe")"
    fi
    if [ "$enroll" = yes ] && [ ! -e "$state/credential.json" ]; then enroll; fi

    [ -e "$settings" ] || place "$draft/agent.yaml" "$settings" 640
    [ -z "$ca" ] || place "$stage/ca.pem" "${settings%/*}/ca.pem" 644
    place "$stage/agent" "$bin/kaimon-agent" 755
    # A unit of the administrator's, for a program of the administrator's.
    sed 's,/usr/bin/kaimon-agent,/usr/local/bin/kaimon-agent,g' "$stage/kaimon-agent.service" >"$stage/unit"
    place "$stage/unit" "$unit" 644
    start
}

start() {
    if [ ! -e "$state/credential.json" ]; then
        say "installed, not enrolled. Next: kaimon-agent enroll --config /etc/kaimon/agent.yaml --token-file -"
    elif [ "$start" = no ] || [ -n "$root" ]; then
        say "installed and enrolled, not started"
    elif systemd; then
        systemctl daemon-reload
        systemctl enable kaimon-agent.service
        systemctl restart kaimon-agent.service || fail "installed, but it does not start: see journalctl -u kaimon-agent"
        say "installed, enrolled and started"
    else
        say "installed and enrolled. There is no systemd here: have your init run, and restart after an upgrade,"
        say "  /usr/local/bin/kaimon-agent run --config /etc/kaimon/agent.yaml"
    fi
}

# stop_running: without systemd, whatever runs from the very file that is about to go.
stop_running() {
    for process in /proc/[0-9]*; do
        [ "$(readlink "$process/exe" 2>/dev/null)" = "$bin/kaimon-agent" ] || continue
        kill "${process#/proc/}" 2>/dev/null || continue
        left=30
        while [ -e "$process/exe" ] && [ "$left" -gt 0 ]; do
            sleep 1
            left=$((left - 1))
        done
        [ "$left" -gt 0 ] || fail "the agent does not stop; nothing is removed"
    done
}

uninstall() {
    if [ -z "$root" ] && packaged; then
        fail "kaimon-agent is here as a package: remove it as one"
    fi
    if systemd && [ -e "$unit" ]; then systemctl disable --now kaimon-agent.service; fi
    stop_running
    rm -f "$unit" "$bin/kaimon-agent"
    if systemd; then systemctl daemon-reload; fi
    if [ -z "$purge" ] && { [ -e "$settings" ] || [ -e "$state" ]; }; then
        purge=no
        if [ -t 0 ] && [ -t 2 ]; then
            printf 'install.sh: remove settings (%s) and credential (%s) too? [y/N] ' "$settings" "$state" >&2
            read -r answer || answer=''
            case $answer in [yY]*) purge=yes ;; esac
        fi
    fi
    if [ "$purge" = yes ]; then
        rm -rf "$state"
        rm -f "$settings" "${settings%/*}/ca.pem"
        rmdir "${settings%/*}" 2>/dev/null || true # what else lies there is not ours
        say "removed. The server still knows this host: revoke its enrollment token there"
    else
        say "removed, but for settings and credential: --uninstall --purge removes them too"
    fi
}

main() {
    from=$(dirname "$0") server='' ca='' mirror_ca='' key='' root='' purge=''
    token_stdin=no enroll=yes start=yes do=install
    while [ $# -gt 0 ]; do
        case $1 in
        --server | --ca | --from | --mirror-ca | --key | --version | --root)
            [ -n "${2:-}" ] || wrong "$1 needs a value"
            case $1 in
            --server) server=$2 ;;
            --ca) ca=$2 ;;
            --from) from=${2%/} ;;
            --mirror-ca) mirror_ca=$2 ;;
            --key) key=$2 ;;
            --version) version=$2 ;;
            --root) root=${2%/} ;;
            esac
            shift
            ;;
        --token-stdin) token_stdin=yes ;;
        --no-enroll) enroll=no ;;
        --no-start) start=no ;;
        --uninstall) do=uninstall ;;
        --keep) purge=no ;;
        --purge) purge=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) wrong "unknown argument: $1" ;;
        esac
        shift
    done
    [ "$do" = uninstall ] || [ -z "$purge" ] || wrong "--keep and --purge belong to --uninstall"
    case $version in *[!A-Za-z0-9.+~-]*) wrong "--version has odd characters" ;; esac
    [ "$(id -u)" = 0 ] || [ -n "$root" ] || fail "this needs root"
    bin=$root/usr/local/bin unit=$root/etc/systemd/system/kaimon-agent.service
    settings=$root/etc/kaimon/agent.yaml state=$root/var/lib/kaimon-agent
    umask 022
    trap clean EXIT
    trap 'exit 1' INT TERM HUP
    "$do"
}

# Last, and whole or a syntax error: half a script does nothing.
{ main "$@"; }
