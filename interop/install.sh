#!/usr/bin/env bash
# Installs the peers that the interop suites run (Debian and Ubuntu). Does nothing when all are there.
set -euo pipefail

packages=(
  gstreamer1.0-tools
  gstreamer1.0-plugins-base
  gstreamer1.0-plugins-good
  gstreamer1.0-plugins-bad
  gstreamer1.0-plugins-ugly
  gstreamer1.0-libav
  gstreamer1.0-rtsp
  iproute2
  python3-gi
  gir1.2-gst-rtsp-server-1.0
  gir1.2-gst-plugins-base-1.0
  glib-networking
  ffmpeg
  tshark
  gcc
  libc6-dev
  libssl-dev
  libsrtp2-dev
  rtpengine-daemon
  janus
  kamailio
  kamailio-tls-modules
  kamailio-websocket-modules
  sip-tester
)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done

if ((${#missing[@]} == 0)); then
  echo "interop peers: all ${#packages[@]} packages are installed"
  exit 0
fi

echo "interop peers: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
as_root=()
((EUID == 0)) || as_root=(sudo --preserve-env=DEBIAN_FRONTEND)
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null
