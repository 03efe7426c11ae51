import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { WatchwordError } from "../../src/bytes/index.js";
import {
  type BeginRequest,
  createInitiator,
  createResponder,
  decodeMessage,
  srtpMasterKeys,
  TOLERANCES,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { anyClientProfile, peerProfile, peerProfileNames } from "../../src/peers/index.js";
import { SDP_TOLERANCES } from "../../src/sdp/index.js";
import { SRTP_TOLERANCES, type SuiteName, suiteNames, suiteOf } from "../../src/srtp/index.js";

const clock = { now: () => Date.UTC(2030, 0, 1) };

/** A NULL-keyed message as a profile wants it. */
function begin(name: string, suite: SuiteName) {
  const profile = peerProfile(name);
  const { cipher } = suiteOf(suite);
  const kind = cipher === "gcm" ? profile.keyKind.aead : profile.keyKind.hmac;
  const short = profile.shortSrtcpTag && suite.endsWith("_32") ? { rtcpTagLength: 4 } : {};
  const request: BeginRequest = {
    credential: { nullKeying: true },
    secure: true,
    cryptoSessions: [{ ssrc: 1 }],
    policies: new Map([[0, { suite, ...short }]]),
    keys: [{ kind, ...(profile.mkiLength === 0 ? {} : { spi: new Uint8Array(profile.mkiLength).fill(1) }) }],
    spDialect: profile.spDialect,
  };
  return createInitiator({ crypto: nodeCrypto, clock }).begin(request);
}

describe("peer profiles", () => {
  it("are known by name", () => {
    expect(peerProfileNames).toEqual([
      "strict",
      "gstreamer",
      "onvif",
      "gortsplib",
      "live555",
      "axis",
      "genetec",
      "hanwha",
      "milestone",
      "nx",
    ]);
    for (const name of peerProfileNames) expect(peerProfile(name).name).toBe(name);
  });

  it.each(["", "gst", "toString", "__proto__", "x".repeat(1000)])("unknown names are refused with the known ones: %s", (name) => {
    try {
      peerProfile(name);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(WatchwordError);
      expect((error as WatchwordError).code).toBe("peers.unknown-profile");
      expect((error as WatchwordError).message).toMatch(
        /there are strict, gstreamer, onvif, gortsplib, live555, axis, genetec, hanwha, milestone, nx$/,
      );
      expect((error as WatchwordError).message.length).toBeLessThan(250);
    }
  });

  it.each(peerProfileNames)("%s lists tolerances that exist, once", (name) => {
    const { tolerances, sdpTolerances, srtpTolerances } = peerProfile(name);
    for (const [listed, known] of [
      [tolerances, TOLERANCES],
      [sdpTolerances, SDP_TOLERANCES],
      [srtpTolerances, SRTP_TOLERANCES],
    ] as const) {
      for (const tolerance of listed) expect(Object.keys(known)).toContain(tolerance);
      expect(new Set(listed).size).toBe(listed.length);
    }
  });

  it("stand in docs/peers.md with every tolerance, and no others do", () => {
    const text = readFileSync(new URL("../../docs/peers.md", import.meta.url), "utf8");
    const rows = [...text.matchAll(/^\| `([a-z0-9]+)` \| [^|]+\| (run|source|capture|specification)/gm)].map(([, name]) => name);
    expect(rows).toEqual(peerProfileNames);
    for (const name of Object.keys({ ...TOLERANCES, ...SDP_TOLERANCES, ...SRTP_TOLERANCES })) expect(text).toContain(`\`${name}\``);
  });

  it("strict puts up with nothing but the one reading of a bare TEK; anybody with everything", () => {
    expect(peerProfile("strict")).toMatchObject({
      tolerances: ["concatenated-key-and-salt"],
      sdpTolerances: [],
      srtpTolerances: [],
    });
    const anybody = anyClientProfile();
    for (const name of peerProfileNames) {
      for (const tolerance of peerProfile(name).tolerances) expect(anybody.tolerances).toContain(tolerance);
    }
  });

  it.each(peerProfileNames.flatMap((name) => suiteNames.map((suite) => [name, suite] as const)))(
    "%s reads what we send it for %s",
    async (name, suite) => {
      const { octets, csb } = await begin(name, suite);
      const { tolerances } = peerProfile(name);
      const responder = createResponder({
        crypto: nodeCrypto,
        clock,
        findCredential: () => undefined,
        tolerances,
        policyAccepted: () => true,
      });
      const result = await responder.receive(octets, { secure: true });
      if (result.kind === "repeated") expect.unreachable();
      else {
        expect(srtpMasterKeys(nodeCrypto, result.csb, 1)).toEqual(srtpMasterKeys(nodeCrypto, csb, 1));
        expect(result.csb.policies).toEqual(csb.policies);
      }
    },
  );

  it.each([
    ["strict", "AES_CM_128_HMAC_SHA1_80", 120],
    ["strict", "AEAD_AES_128_GCM", 120],
    ["gstreamer", "AES_CM_128_HMAC_SHA1_80", 112],
    ["gstreamer", "AES_256_CM_HMAC_SHA1_80", 128],
    ["gstreamer", "AEAD_AES_128_GCM", 110],
  ] as const)("%s, %s: T, RAND, SP, KEMAC in %i octets", async (name, suite, length) => {
    const { octets } = await begin(name, suite);
    expect(decodeMessage(octets).payloads.map(({ kind }) => kind)).toEqual(["T", "RAND", "SP", "KEMAC"]);
    expect(octets).toHaveLength(length);
  });
});
