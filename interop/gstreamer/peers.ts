import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { SuiteName } from "../../src/srtp/index.js";
import { makeSelfSigned } from "../../test/node/self-signed.js";
import { PYTHON } from "../peers.js";
import { type Finishing, lastJson, type RunningProcess, runProcess, startProcess } from "../process.js";
import { script } from "../watchword.js";

/** The suites that GStreamer keys by MIKEY and that the matrix covers. */
export const MATRIX_SUITES: readonly SuiteName[] = [
  "AES_CM_128_HMAC_SHA1_80",
  "AES_256_CM_HMAC_SHA1_80",
  "AEAD_AES_128_GCM",
  "AEAD_AES_256_GCM",
];
const MATRIX_PROFILES = ["RTP/SAVP", "RTP/SAVPF"] as const;
const MATRIX_TRANSPORTS = ["udp", "tcp"] as const;

/** One cell: how a stream is carried and protected. */
export interface Cell {
  readonly transport: (typeof MATRIX_TRANSPORTS)[number];
  readonly profile: (typeof MATRIX_PROFILES)[number];
  readonly suite: SuiteName;
}

/** UDP and TCP x SAVP and SAVPF x the suites. */
export const MATRIX: readonly Cell[] = MATRIX_SUITES.flatMap((suite) =>
  MATRIX_PROFILES.flatMap((profile) => MATRIX_TRANSPORTS.map((transport) => ({ transport, profile, suite }))),
);

/** What rtspsrc.py reports. */
export interface RtspsrcReport {
  readonly tracks: Readonly<
    Record<
      string,
      { readonly encoding: string; readonly frames: readonly string[]; readonly octets: number; readonly decoded: number }
    >
  >;
  readonly decrypters: readonly { readonly "recv-count"?: number; readonly "recv-drop-count"?: number }[];
  readonly errors: readonly string[];
  readonly warnings: readonly string[];
  readonly requests: readonly string[];
  /** MKIs of the keys taken, where that was asked for. */
  readonly keys?: readonly string[];
}

/** rtspsrc plays a URL. */
export async function rtspsrc(test: Finishing, url: string, args: readonly string[]): Promise<RtspsrcReport> {
  const result = await runProcess(test, PYTHON, [script("gstreamer", "rtspsrc.py"), url, ...args]);
  return lastJson<RtspsrcReport>(result);
}

/** What server.py reports. */
export interface GstServerReport {
  /** By track and RTP sequence number, the SHA-256 of the payload. */
  readonly tracks: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly requests: readonly { readonly method: string; readonly keyMgmt: string | null }[];
  readonly decrypters: readonly { readonly "recv-count"?: number; readonly "recv-drop-count"?: number }[];
  readonly closed: number;
}

/** A running gst-rtsp-server. */
export interface GstServer {
  readonly port: number;
  /** Ends it and says what it sent and met. */
  report(): Promise<GstServerReport>;
}

export async function gstServer(test: Finishing, args: readonly string[]): Promise<GstServer> {
  const server: RunningProcess = startProcess(test, PYTHON, [script("gstreamer", "server.py"), ...args]);
  const [, port] = await server.match(/^listening (\d+)$/m);
  return { port: Number(port), report: async () => lastJson<GstServerReport>(await server.stop()) };
}

/** Files with a certificate for 127.0.0.1, its key, and both in one, as servers and clients want them. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
  readonly both: string;
}

export function writeCertificate(folder: string): CertificateFiles {
  const { cert, key } = makeSelfSigned();
  const files = { cert: join(folder, "cert.pem"), key: join(folder, "key.pem"), both: join(folder, "both.pem") };
  writeFileSync(files.cert, cert);
  writeFileSync(files.key, key, { mode: 0o600 });
  writeFileSync(files.both, cert + key, { mode: 0o600 });
  return files;
}
