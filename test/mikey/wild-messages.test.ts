import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { formatHex, parseBase64 } from "../../src/bytes/index.js";
import {
  createResponder,
  cryptoSessionsOf,
  decodeMessage,
  decodeNtp,
  payloadOf,
  srtpMasterKeys,
  type ToleranceName,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { peerProfile } from "../../src/peers/index.js";
import { accepted, codeOf, NOW } from "./exchange-fixture.js";

/** Messages of real peers; they are not ours to ship, so they stand beside the checkout where there are any. */
const SHARED = resolve(import.meta.dirname, "../../../shared");
const WILD = join(SHARED, "vectors/third-party/wild-mikey-messages.json");
const GOLDEN = join(SHARED, "golden/gst");

function receive(octets: Uint8Array, tolerances: readonly ToleranceName[]) {
  const t = payloadOf(decodeMessage(octets, { trailing: "keep" }), "T");
  const now = t?.value.length === 8 ? decodeNtp(t.value, NOW) : NOW;
  // The clock is the sender's, unless that is the tolerance in question.
  const clock = { now: () => (tolerances.includes("timestamp-unchecked") ? NOW : now) };
  return createResponder({ crypto: nodeCrypto, clock, findCredential: () => undefined, tolerances }).receive(octets, {
    secure: true,
  });
}

interface WildMessage {
  readonly source: string;
  readonly base64: string;
  readonly expected: {
    readonly dataType: number;
    readonly payloads?: readonly {
      readonly type: string;
      readonly encrAlg?: number;
      readonly keyData?: readonly { readonly key: string; readonly spi?: string }[];
    }[];
  };
}

const wild: readonly WildMessage[] = existsSync(WILD) ? (JSON.parse(readFileSync(WILD, "utf8")) as WildMessage[]) : [];
/** NULL-keyed messages that real devices sent; the rest is of other modes or made up for a parser's test. */
const keyed = wild
  .filter(({ expected }) => expected.dataType === 0)
  .flatMap(({ source, base64, expected }) => {
    const key = expected.payloads?.find(({ type, encrAlg }) => type === "KEMAC" && encrAlg === 0)?.keyData?.[0];
    return key === undefined || key.key.length < 56 ? [] : [{ source, octets: parseBase64(base64), key }];
  });

describe.skipIf(wild.length === 0)("wild messages (shared/vectors/third-party)", () => {
  it("there are some", () => {
    expect(keyed.length).toBeGreaterThanOrEqual(18);
  });

  it.each(keyed)("$source under the onvif profile", async ({ octets, key }) => {
    const { csb } = await accepted(receive(octets, peerProfile("onvif").tolerances));
    const [master] = srtpMasterKeys(nodeCrypto, csb, 1);
    expect(formatHex(Uint8Array.of(...(master?.key ?? []), ...(master?.salt ?? [])))).toBe(key.key);
    expect(master?.mki === undefined ? undefined : formatHex(master.mki)).toBe(key.spi);
    expect(csb.tolerances.length).toBeGreaterThan(0);
  });

  it("strict takes those without RFC departures only", async () => {
    const codes = await Promise.all(keyed.map(({ octets }) => codeOf(() => receive(octets, peerProfile("strict").tolerances))));
    expect(new Set(codes)).toEqual(new Set([undefined, "mikey.grammar", "mikey.policy-parameter", "bytes.trailing"]));
    expect(codes.filter((code) => code === undefined).length).toBeGreaterThanOrEqual(3);
  });

  it.each(wild.filter(({ expected }) => expected.dataType > 1))(
    "$source is of another mode and refused as such",
    async ({ base64 }) => {
      expect(await codeOf(() => receive(parseBase64(base64), peerProfile("onvif").tolerances))).toBe("mikey.data-type");
    },
  );
});

interface GoldenCapture {
  readonly mikey_base64?: readonly { readonly where: string; readonly b64: string }[];
  readonly keys?: readonly { readonly ssrc?: string; readonly suite: string; readonly master_key_salt_hex: string }[];
}

const golden = (existsSync(GOLDEN) ? readdirSync(GOLDEN) : []).flatMap((file) => {
  const { mikey_base64 = [], keys = [] } = JSON.parse(readFileSync(join(GOLDEN, file), "utf8")) as GoldenCapture;
  return mikey_base64
    .filter(({ where }) => !where.includes("TEARDOWN"))
    .map(({ where, b64 }) => ({ file, where, octets: parseBase64(b64), keys }));
});

describe.skipIf(golden.length === 0)("captured GStreamer messages (shared/golden)", () => {
  it.each(golden)("$file, $where: the keys are those that opened the packets", async ({ octets, keys }) => {
    const { csb } = await accepted(receive(octets, peerProfile("gstreamer").tolerances));
    const [session] = csb.cryptoSessions;
    const [master] = srtpMasterKeys(nodeCrypto, csb, 1);
    const found = formatHex(Uint8Array.of(...(master?.key ?? []), ...(master?.salt ?? [])));
    const captured = keys.find(({ ssrc }) => Number(ssrc) === session?.ssrc);
    if (captured !== undefined) {
      expect(found).toBe(captured.master_key_salt_hex);
      expect(csb.policies.get(0)?.suite).toBe(captured.suite);
    }
    expect(master?.mki).toBeUndefined();
    expect(csb.policies.get(0)?.rtcpTagLength).toBeUndefined();
  });

  it("most of them have a captured key to compare with", () => {
    const compared = golden.filter(({ octets, keys }) => {
      const [session] = cryptoSessionsOf(decodeMessage(octets).header.csMap);
      return keys.some(({ ssrc }) => Number(ssrc) === session?.ssrc);
    });
    expect(compared.length).toBeGreaterThanOrEqual(15);
  });
});

const MATRIX = join(GOLDEN, "mikey-acceptance-matrix-rtspsrc.json");
const rows = existsSync(MATRIX)
  ? (
      JSON.parse(readFileSync(MATRIX, "utf8")) as {
        readonly rows: readonly { readonly variant: string; readonly mikey_base64: string }[];
      }
    ).rows
  : [];

describe.skipIf(rows.length === 0)("shapes that GStreamer was tried with (shared/golden)", () => {
  it.each(rows)("$variant is accepted, or refused with a typed error", async ({ mikey_base64 }) => {
    const code = await codeOf(() => receive(parseBase64(mikey_base64), peerProfile("onvif").tolerances));
    expect(code === undefined || /^(mikey|bytes)\.[a-z-]+$/.test(code)).toBe(true);
  });
});
