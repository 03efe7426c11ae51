import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { equalBytes, formatHex, parseHex } from "../../src/bytes/index.js";
import { createSrtpReceiver, createSrtpSender, derivationEpoch, deriveKey, type SuiteName, suiteOf } from "../../src/srtp/index.js";
import extras from "../vectors/derived-srtp-extras.json" with { type: "json" };
import rfc3711b3 from "../vectors/rfc3711-b3-kdf.json" with { type: "json" };
import rfc6188 from "../vectors/rfc6188-aes192-256.json" with { type: "json" };
import { BACKENDS } from "./packets.js";

const SHARED = join(import.meta.dirname, "../../../shared");
const LIBSRTP = join(SHARED, "vectors/third-party/libsrtp-packets-BSD.json");
const GOLDEN = join(SHARED, "golden/gst");

describe.each(BACKENDS)("key derivation on $name", ({ crypto }) => {
  it.each(rfc3711b3.vectors)("RFC 3711 B.3 $name", ({ label, n, output }) => {
    const derived = deriveKey(crypto, parseHex(rfc3711b3.masterKey), parseHex(rfc3711b3.masterSalt), label, 0, n);
    expect(formatHex(derived)).toBe(output);
  });

  it.each(rfc6188.vectors.filter(({ label }) => label !== undefined))("RFC 6188 §7 $name", (vector) => {
    const { masterKey = "", masterSalt = "", label = -1, n = -1 } = vector;
    expect(formatHex(deriveKey(crypto, parseHex(masterKey), parseHex(masterSalt), label, 0, n))).toBe(vector.output);
  });

  it.each(extras.vectors.filter(({ kdr }) => kdr !== undefined))("$name", (vector) => {
    const { masterKey = "", masterSalt = "", output = "", index = "", kdr = 0, r = "", name } = vector;
    const epoch = derivationEpoch(Number.parseInt(index, 16), kdr);
    expect(epoch).toBe(Number.parseInt(r, 16));
    const label = Number(/label (\d)/.exec(name)?.[1]);
    expect(formatHex(deriveKey(crypto, parseHex(masterKey), parseHex(masterSalt), label, epoch, output.length / 2))).toBe(output);
  });
});

interface PacketVector {
  readonly name: string;
  readonly masterKey?: string;
  readonly masterSalt?: string;
  readonly mki?: string;
  readonly rtp?: string;
  readonly srtp?: string;
  readonly rtcp?: string;
  readonly srtcp?: string;
}

/** The file states key and plaintext once for the vectors that say "same". Those of RFC 6904 are in header-extensions.test.ts. */
function packetVectors(): PacketVector[] {
  const { vectors } = JSON.parse(readFileSync(LIBSRTP, "utf8")) as { vectors: PacketVector[] };
  let known: Partial<PacketVector> = {};
  return vectors
    .filter(({ name }) => !name.includes("6904"))
    .map((vector) => {
      const { masterKey, masterSalt, rtp, rtcp } = { ...known, ...vector };
      known = { ...known, ...definedOnly({ masterKey, masterSalt, rtp, rtcp }) };
      return { ...definedOnly({ masterKey, masterSalt, rtp, rtcp }), ...vector } as PacketVector;
    });
}

function definedOnly(fields: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(Object.entries(fields).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

function suiteByLengths(keyLength: number, saltLength: number): SuiteName {
  if (saltLength === 12) return "AEAD_AES_128_GCM";
  return (
    new Map<number, SuiteName>([
      [16, "AES_CM_128_HMAC_SHA1_80"],
      [24, "AES_192_CM_HMAC_SHA1_80"],
    ]).get(keyLength) ?? "AES_256_CM_HMAC_SHA1_80"
  );
}

describe.skipIf(!existsSync(LIBSRTP))("packets of libsrtp's own tests", () => {
  it.each(BACKENDS)("protect and unprotect on $name", ({ crypto, backend }) => {
    const vectors = packetVectors();
    expect(vectors).toHaveLength(8);
    for (const { name, masterKey = "", masterSalt = "", mki, rtp = "", srtp, rtcp = "", srtcp = "" } of vectors) {
      const key = { key: parseHex(masterKey), salt: parseHex(masterSalt), ...(mki === undefined ? {} : { mki: parseHex(mki) }) };
      const options = { policy: { suite: suiteByLengths(key.key.length, key.salt.length) }, keys: [key], crypto, backend };
      const [sender, receiver] = [createSrtpSender(options), createSrtpReceiver(options)];
      const out = new Uint8Array(200);
      if (srtp !== undefined) {
        expect(formatHex(out.subarray(0, sender.protect(parseHex(rtp), out))), name).toBe(srtp);
        expect(formatHex(out.subarray(0, Math.max(0, receiver.unprotect(parseHex(srtp), out)))), name).toBe(rtp);
      } else {
        // The packets have index 1, our second.
        sender.protectRtcp(parseHex(rtcp), out);
        expect(formatHex(out.subarray(0, sender.protectRtcp(parseHex(rtcp), out))), name).toBe(srtcp);
        expect(formatHex(out.subarray(0, Math.max(0, receiver.unprotectRtcp(parseHex(srtcp), out)))), name).toBe(rtcp);
      }
    }
  });
});

interface Capture {
  readonly keys?: readonly {
    readonly ssrc?: string;
    readonly suite: SuiteName;
    readonly master_key_salt_hex: string;
    readonly mki?: string | null;
  }[];
  readonly srtp_packets_hex?: readonly string[];
  readonly plaintext_rtp_hex?: readonly string[];
  readonly srtcp_packets_hex?: readonly string[];
  readonly plaintext_rtcp_hex?: readonly string[];
}

describe.skipIf(!existsSync(GOLDEN))("captures of GStreamer and ffmpeg", () => {
  const files = existsSync(GOLDEN) ? readdirSync(GOLDEN).filter((name) => !name.includes("matrix")) : [];

  it.each(files)("%s opens", (file) => {
    const capture = JSON.parse(readFileSync(join(GOLDEN, file), "utf8")) as Capture;
    const receivers = (capture.keys ?? []).map(({ suite, master_key_salt_hex, mki }) => {
      const octets = parseHex(master_key_salt_hex);
      const { keyLength } = suiteOf(suite);
      const key = { key: octets.subarray(0, keyLength), salt: octets.subarray(keyLength) };
      const named = mki === undefined || mki === null || mki === "-" ? key : { ...key, mki: parseHex(mki) };
      return createSrtpReceiver({ policy: { suite }, keys: [named], searchRolloverCounter: true });
    });
    const open = (packet: string, plain: string, method: "unprotect" | "unprotectRtcp"): void => {
      const out = new Uint8Array(2000);
      const lengths = receivers.map((receiver) => receiver[method](parseHex(packet), out));
      const length = Math.max(...lengths);
      expect(length).toBe(plain.length / 2);
      expect(equalBytes(out.subarray(0, length), parseHex(plain))).toBe(true);
    };
    expect(capture.srtp_packets_hex?.length).toBeGreaterThan(0);
    capture.srtp_packets_hex?.forEach((packet, i) => {
      open(packet, capture.plaintext_rtp_hex?.[i] as string, "unprotect");
    });
    capture.srtcp_packets_hex?.forEach((packet, i) => {
      open(packet, capture.plaintext_rtcp_hex?.[i] as string, "unprotectRtcp");
    });
  });
});
