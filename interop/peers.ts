import { spawnSync } from "node:child_process";
import { describe, it } from "vitest";

/** The programs that the suites run against. */
export type PeerName = "gstreamer" | "ffmpeg" | "tshark" | "libsrtp" | "rtpengine" | "janus" | "kamailio" | "sipp";

interface Peer {
  /** Commands that all have to succeed; the first one's output tells the version. */
  readonly probes: readonly (readonly [command: string, ...args: string[]])[];
  readonly version: RegExp;
}

/** The interpreter of the distribution: the one that has GStreamer's bindings. */
export const PYTHON = "/usr/bin/python3";

const BINDINGS = [
  "import gi",
  "[gi.require_version(name, '1.0') for name in ('Gst', 'GstRtsp', 'GstRtspServer')]",
  "from gi.repository import Gst, GstRtsp, GstRtspServer",
].join("; ");

/** A library has no command: a compiler and the header files have to be there too. */
const LIBSRTP = [
  "program=$(mktemp)",
  'printf \'#include <srtp2/srtp.h>\\n#include <stdio.h>\\nint main(void) { puts(srtp_get_version_string()); }\\n\' | cc -xc - -o "$program" -lsrtp2 && "$program"',
  'status=$?; rm -f "$program"; exit $status',
].join("; ");

const PEERS: Readonly<Record<PeerName, Peer>> = {
  gstreamer: {
    probes: [
      ["gst-launch-1.0", "--version"],
      [PYTHON, "-c", BINDINGS],
      ["gst-inspect-1.0", "--exists", "srtpdec"],
      ["gst-inspect-1.0", "--exists", "rtspsrc"],
      ["gst-inspect-1.0", "--exists", "rtspclientsink"],
    ],
    version: /GStreamer (\S+)/,
  },
  ffmpeg: { probes: [["ffmpeg", "-version"]], version: /ffmpeg version (\d[\w.]*)/ },
  libsrtp: { probes: [["sh", "-c", LIBSRTP]], version: /libsrtp2? (\S+)/ },
  rtpengine: { probes: [["sh", "-c", "rtpengine --version 2>&1"]], version: /Version: (\d[\w.]*)/ },
  janus: { probes: [["sh", "-c", "janus --version | grep ."]], version: /\((\d[\w.]*)\)/ },
  kamailio: {
    // The modules are packages of their own.
    probes: [
      ["kamailio", "-v"],
      ["sh", "-c", "ls /usr/lib*/*/kamailio/modules/websocket.so /usr/lib*/*/kamailio/modules/tls.so"],
    ],
    version: /kamailio (\d[\w.]*)/,
  },
  sipp: { probes: [["sh", "-c", "sipp -v | grep SIPp"]], version: /SIPp v(\d[\d.]*)/ },
  tshark: { probes: [["tshark", "--version"]], version: /TShark[^\d]*(\d[\w.]*)/ },
};

const found = new Map<PeerName, string | undefined>();

/** The peer's version, or undefined where it is not installed. */
export function peerVersion(name: PeerName): string | undefined {
  if (!found.has(name)) found.set(name, probe(PEERS[name]));
  return found.get(name);
}

function probe(peer: Peer): string | undefined {
  let version: string | undefined;
  for (const [command, ...args] of peer.probes) {
    const result = spawnSync(command, args, { encoding: "utf8", timeout: 20_000, stdio: ["ignore", "pipe", "ignore"] });
    if (result.status !== 0) return undefined;
    version ??= peer.version.exec(result.stdout)?.[1] ?? "of unknown version";
  }
  return version;
}

/**
 * A suite against a real peer: runs where it is installed, is skipped by name where it is not, and fails in CI, where
 * every peer has to be there.
 */
export function describePeer(name: PeerName, title: string, body: () => void): void {
  const version = peerVersion(name);
  if (version !== undefined) describe(`interop ${name} ${version}: ${title}`, body);
  else if (process.env["CI"] === "true") {
    describe(`interop ${name}: ${title}`, () => {
      it("has its peer installed", () => {
        throw new Error(`${name} is not installed: npm run interop:install`);
      });
    });
  } else describe.skip(`interop ${name}: ${title} (not installed: npm run interop:install)`, body);
}
