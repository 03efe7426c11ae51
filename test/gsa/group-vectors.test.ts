import { execFileSync, spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { formatHex, parseHex, utf8 } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import {
  heldGroupKey,
  issueCredential,
  masterKeyOf,
  openGsa,
  openLeave,
  openLeaveAcknowledgement,
  parseProvisionedRegistration,
  provisionedRegistration,
  type RekeyContent,
  sealEnd,
  sealGsa,
  sealHeartbeat,
  sealLeave,
  sealRekey,
  sealReport,
  signingKeyId,
  verifyCredential,
} from "../../src/gsa/index.js";
import { decodeCredential, encodeCredential } from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import type { SuiteName } from "../../src/srtp/index.js";
import { constants, GCKS, gsaContent, keyVectors, MEMBER, NOW, octets, policies, rekeyPolicy, vectors } from "./group-fixture.js";

/** 2026-07-26, between the ends of the credential's validity. */
const WALL_CLOCK = Date.UTC(2026, 6, 26);

describe.each([nobleCrypto, nodeCrypto])("vectors of groups, $name", (crypto) => {
  const signer = crypto.importPrivateKey(octets("signingPkcs8"));
  const owner = crypto.importPrivateKey(octets("ownerPkcs8"));
  const kekBefore = { spi: 7, key: octets("kekBefore") };
  const kekAfter = { spi: 8, key: octets("kekAfter") };

  it("AES key wrap with padding", () => {
    for (const { key, plaintext, wrapped } of keyVectors.kwp) {
      expect(formatHex(crypto.aesKeyWrapPad(parseHex(key), parseHex(plaintext)))).toBe(wrapped);
      expect(formatHex(crypto.aesKeyUnwrapPad(parseHex(key), parseHex(wrapped)) as Uint8Array)).toBe(plaintext);
    }
  });

  it("a provisioned registration", () => {
    const { provisioned } = keyVectors;
    const { id, secret, gcks, member, groups } = provisioned;
    const file = { watchword: "registration", version: 1, id, secret, gcks, member, groups };
    const registration = provisionedRegistration(crypto, parseProvisionedRegistration(JSON.stringify(file)), "member");
    const { transcript, proofKey, downKey, upKey } = registration;
    expect([transcript, proofKey, downKey, upKey].map(formatHex)).toEqual(
      ["th", "kPop", "kDown", "kUp"].map((name) => provisioned[name]),
    );
  });

  it("keys that proofs name, and keys per SSRC", () => {
    for (const { key, kekSpi, mki, id, g } of keyVectors.held) {
      const proven =
        kekSpi === undefined
          ? { dataKey: { mki: mki as number, key: parseHex(key) } }
          : { kek: { spi: kekSpi, key: parseHex(key) } };
      const held = heldGroupKey(crypto, constants, proven);
      expect([held.spi, held.g].map(formatHex)).toEqual([id, g]);
    }
    for (const { gtgk, mki, ssrc, suite, tek, salt } of keyVectors.perSsrc) {
      const key = { dataSa: 2, mki, key: parseHex(gtgk) };
      const master = masterKeyOf(crypto, constants.group, key, suite as SuiteName, ssrc);
      expect([master.key, master.salt].map(formatHex)).toEqual([tek, salt]);
    }
    expect(formatHex(signingKeyId(crypto, parseHex(keyVectors.signing.spki)))).toBe(keyVectors.signing.keyId);
  });

  it("a credential", async () => {
    const made = await issueCredential(crypto, owner, {
      group: constants.group,
      identity: GCKS.data,
      key: octets("signingSpki"),
      notBefore: ntpToUnix(0xed00_0000),
      notAfter: ntpToUnix(0xef00_0000),
    });
    expect(formatHex(encodeCredential(made))).toBe(vectors["credential"]);
    const expected = { group: constants.group, identity: GCKS.data, key: octets("signingSpki"), now: WALL_CLOCK };
    expect(await verifyCredential(crypto, owner.publicKey, decodeCredential(octets("credential")), expected)).toBe(true);
  });

  it("a GSA message", async () => {
    expect(formatHex(sealGsa(crypto, octets("kDown"), gsaContent))).toBe(vectors["gsa"]);
    const opened = await openGsa(crypto, octets("kDown"), octets("gsa"), {
      gcks: GCKS,
      member: MEMBER,
      groups: [utf8("another"), constants.group],
      minimum: { credential: true },
      ownerKey: async () => owner.publicKey,
      now: WALL_CLOCK,
    });
    expect(opened).toEqual({
      ...gsaContent,
      policies: { ...policies, rekey: { ...rekeyPolicy, tree: { largestId: 6, leaf: 5 } } },
      kek: kekBefore,
    });
  });

  it("a rekey message, a heartbeat and an end", async () => {
    const content: RekeyContent = {
      constants,
      rekey: rekeyPolicy,
      kek: kekBefore,
      signer,
      sequence: 8,
      change: {
        prepared: {
          version: 8,
          previous: 7,
          groupKey: kekAfter.key,
          *parts() {
            const part = { version: 8, previous: 7, largestId: 6, first: 3, last: 6 };
            yield { ...part, edges: octets("edges"), refreshed: new Uint8Array(0) };
          },
        },
        immediate: true,
        lifetime: 86_400,
      },
      dataKeys: [
        { dataSa: 1, mki: 10, key: octets("newTek"), salt: octets("newSalt") },
        { dataSa: 2, mki: 11, key: octets("newGtgk") },
      ],
      streams: [{ ssrc: 0xcafebabe, gone: true }],
    };
    expect((await sealRekey(crypto, content)).map(formatHex)).toEqual([vectors["rekey"]]);
    const sealing = { constants, rekey: rekeyPolicy, kek: kekAfter, signer };
    expect(formatHex(await sealHeartbeat(crypto, { ...sealing, sequence: 8 }, NOW))).toBe(vectors["heartbeat"]);
    expect(formatHex(await sealEnd(crypto, { ...sealing, sequence: 9 }, NOW, true))).toBe(vectors["end"]);
  });

  it("a report", () => {
    const streams = [
      { ssrc: 0x01020304, running: { roc: 0, seq: 100 }, gone: false },
      { ssrc: 0x01020305, gone: true },
    ];
    const report = sealReport(crypto, octets("kUp"), constants, { counter: 2, member: 42, kekSpi: 8, streams });
    expect(formatHex(report)).toBe(vectors["report"]);
  });

  it("a de-registration from two groups, and its acknowledgement", () => {
    const { id, secret, gcks, member, groups } = keyVectors.provisioned;
    const file = parseProvisionedRegistration(
      JSON.stringify({ watchword: "registration", version: 1, id, secret, gcks, member, groups }),
    );
    const own = provisionedRegistration(crypto, file, "member");
    const other = {
      group: octets("otherGroup"),
      csbId: Number.parseInt(vectors["otherCsbId"] as string, 16),
      rand: constants.rand,
    };
    const keys = [
      heldGroupKey(crypto, constants, { kek: kekAfter }),
      heldGroupKey(crypto, other, { dataKey: { mki: 4, key: octets("otherTek") } }),
    ];
    const leave = sealLeave(crypto, own, keys, NOW, true);
    expect(formatHex(leave.octets)).toBe(vectors["leave"]);
    const verdict = openLeave(crypto, provisionedRegistration(crypto, file, "gcks"), leave.octets, ({ csbId, spi, kind }) => {
      expect({ csbId, spi, kind }).toEqual(
        csbId === constants.csbId ? { csbId, spi: 8, kind: "kek" } : { csbId: other.csbId, spi: 4, kind: "data" },
      );
      return keys[csbId === constants.csbId ? 0 : 1]?.g;
    });
    expect(verdict).toMatchObject({ verdict: "verified", groups: [other.csbId, constants.csbId] });
    const acknowledgement = verdict.verdict === "verified" ? verdict.acknowledgement : undefined;
    expect(formatHex(acknowledgement as Uint8Array)).toBe(vectors["leaveAcknowledgement"]);
    expect(openLeaveAcknowledgement(crypto, own, leave.octets, acknowledgement, keys)).toBe("verified");
  });
});

describe("the vector files of groups", () => {
  const python = spawnSync("python3", ["--version"]).status === 0;
  it.skipIf(!python)("are what the independent Python computation gives (python3 installed)", () => {
    const script = new URL("../vectors/group.py", import.meta.url).pathname;
    execFileSync("python3", [script], { env: { ...process.env, CHECK: "1" } });
  });
});

function ntpToUnix(seconds: number): number {
  return (seconds - 2_208_988_800) * 1000;
}
