import { existsSync, readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatBase64, formatHex, parseHex, utf8 } from "../../src/bytes/index.js";
import { encodeKeyIds, encodeMessage, encodePayloadChain, type MikeyMessage, type Payload } from "../../src/mikey/index.js";
import { formatInspections, type Inspection, inspectionJson, inspectOctets, inspectText } from "../../src/tools/index.js";
import { messageArbitrary } from "../mikey/codec-arbitraries.js";
import { KEY, KEY_HEX, kemac, STRICT, STRICT_BASE64, STRICT_OCTETS, TEK, variant } from "./messages.js";

/** Everything that leaves the inspector, as one text. */
const allOutput = (inspections: readonly Inspection[]): string =>
  JSON.stringify(inspections) + JSON.stringify(inspections.map(inspectionJson)) + formatInspections(inspections);

/** No run of 4 octets of the key is to be seen, with or without blanks. */
function expectHidden(inspections: readonly Inspection[]): void {
  const output = allOutput(inspections).replaceAll(" ", "");
  for (let at = 0; at + 8 <= KEY_HEX.length; at += 2) expect(output).not.toContain(KEY_HEX.slice(at, at + 8));
}

describe("inspection", () => {
  it("says what the message says", () => {
    const [inspection] = inspectText(STRICT_BASE64, { reveal: true });
    expect(inspectionJson(inspection as Inspection)).toMatchObject({
      where: "base64",
      valid: true,
      octets: formatHex(STRICT_OCTETS),
      message: {
        header: {
          version: 1,
          dataTypeName: "PSK_INIT",
          prfName: "MIKEY_1",
          csbId: "01020304",
          csMap: { typeName: "SRTP_ID", count: 1, entries: [{ csId: 1, policyNo: 0, ssrc: "0a0b0c0d", roc: 0 }] },
        },
        payloads: [
          { kind: "T", tsTypeName: "NTP_UTC", value: "eeade88000000000", time: "2026-11-22T22:17:36.000Z" },
          { kind: "RAND", rand: "000102030405060708090a0b0c0d0e0f" },
          { kind: "SP", suite: "AES_CM_128_HMAC_SHA1_80", named: { ENCR_ALG: 1, AUTH_TAG_LENGTH: 10 } },
          {
            kind: "KEMAC",
            macAlgName: "NULL",
            keys: [{ typeName: "TEK", key: KEY_HEX, validity: { kv: "spi", spi: "00000001" } }],
          },
        ],
      },
    });
  });

  it("has exactly the five members that scripts rely on", () => {
    const [inspection] = inspectText(STRICT_BASE64);
    expect(Object.keys(inspectionJson(inspection as Inspection))).toEqual(["where", "valid", "message", "octets", "problems"]);
    expect(inspectionJson(inspectText("a=key-mgmt:mikey !")[0] as Inspection).message).toBeNull();
  });

  it("looks into extensions, tickets and nested messages", () => {
    const bare = STRICT.payloads.slice(0, 3);
    const tpData = encodePayloadChain([{ kind: "IDR", role: 3, idType: 1, data: utf8("kms.example.org") }]);
    const message: MikeyMessage = {
      ...STRICT,
      payloads: [
        ...bare,
        { kind: "EXT", extType: 3, data: encodeKeyIds([{ type: 1, id: parseHex("00010002") }]) },
        { kind: "EXT", extType: 5, data: parseHex("02aabb") },
        { kind: "EXT", extType: 1, data: utf8("mikey") },
        { kind: "TP", ticketType: 1, subtype: 1, version: 1, prf: 1, flags: 0xb80, reserved: 0, tpData },
        { kind: "EXT", extType: 242, data: STRICT_OCTETS },
      ],
    };
    const inspections = inspectOctets(encodeMessage(message));
    const meanings = new Map(inspections[0]?.fields.map(({ path, meaning }) => [path, meaning]));
    expect(meanings.get("mikey.EXT.data.keyIds[0].type")).toBe("1 MBMS_MSK: MBMS service key ID (MSK ID)");
    expect(meanings.get("mikey.EXT[1].data.subtype")).toBe("2 STKM: short-term key message");
    expect(meanings.get("mikey.EXT[2].data")).toBe("mikey");
    expect(meanings.get("mikey.TP.tpData.IDR.data")).toBe("kms.example.org");
    expect(meanings.get("mikey.TP.flags")).toContain("D: the KMS made the ticket; F: TRANSFER_RESP is sent");
    expect(meanings.get("mikey.EXT[3].data.HDR.csbId")).toBe("01020304");
    expect(meanings.get("mikey.EXT[3].data.KEMAC.encrData[0].key")).toBe("hidden, 30 octets");
    expect(formatInspections(inspections)).toContain("MBMS service key ID (MSK ID), 00010002");
  });

  it("draws the octet map", () => {
    expect(formatInspections(inspectText(STRICT_BASE64))).toBe(
      readFileSync(new URL("strict-message.txt", import.meta.url), "utf8"),
    );
  });

  it("the octet map covers every octet of any message, and any message can be shown", () => {
    fc.assert(
      fc.property(messageArbitrary, (message) => {
        const octets = encodeMessage(message);
        const inspections = inspectOctets(octets, { reveal: true });
        const [inspection] = inspections;
        expect(inspection?.octets).toBe(formatHex(octets));
        let bits = 0;
        for (const { length, bits: own } of inspection?.fields ?? []) bits += own ?? length * 8;
        expect(bits).toBe(octets.length * 8);
        expect(formatInspections(inspections)).toContain(`${octets.length} octets`);
        expect(() => JSON.stringify(inspection)).not.toThrow();
      }),
      { numRuns: 60 },
    );
  });
});

describe("hiding keys", () => {
  const bare: readonly Payload[] = STRICT.payloads.slice(0, 3);

  it("hides keys and salts in every form, and shows them when asked", () => {
    const messages: MikeyMessage[] = [
      STRICT,
      variant("KEMAC", kemac([TEK, { ...TEK, type: 3, key: KEY.subarray(0, 16), salt: KEY.subarray(16) }])),
      variant("KEMAC", { kind: "KEMAC", encrAlg: 0, encrData: KEY, macAlg: 0, mac: new Uint8Array() }),
      { ...STRICT, trailing: KEY },
      {
        ...STRICT,
        payloads: [
          ...bare,
          {
            kind: "TP",
            ticketType: 1,
            subtype: 1,
            version: 1,
            prf: 1,
            flags: 0,
            reserved: 0,
            tpData: encodePayloadChain([kemac([TEK])]),
          },
        ],
      },
      { ...STRICT, payloads: [...bare, { kind: "EXT", extType: 242, data: STRICT_OCTETS }] },
      { ...STRICT, payloads: [...bare, { kind: "EXT", extType: 242, data: STRICT_OCTETS.subarray(0, -10) }] },
    ];
    for (const message of messages) {
      const octets = encodeMessage(message);
      expectHidden(inspectOctets(octets));
      expect(inspectOctets(octets, { reveal: true })[0]?.octets).toContain(KEY_HEX.slice(0, 32));
    }
  });

  it("hides what a damaged message may hold", () => {
    for (let length = 1; length < STRICT_OCTETS.length; length++) {
      expectHidden(inspectOctets(STRICT_OCTETS.subarray(0, length)));
      for (const difference of [0x01, 0x55, 0xff]) {
        const damaged = STRICT_OCTETS.slice();
        damaged[length] = (damaged[length] as number) ^ difference;
        const inspections = inspectOctets(damaged);
        // What still decodes says of itself what its octets are: with another Encr alg the keys count as encrypted.
        if (inspections[0]?.message === undefined) expectHidden(inspections);
      }
    }
  });

  it("shows what is no key: the length stays, other octets stay", () => {
    const [inspection] = inspectText(STRICT_BASE64);
    const start = formatHex(STRICT_OCTETS).indexOf(KEY_HEX);
    expect(inspection?.octets).toBe(formatHex(STRICT_OCTETS).replace(KEY_HEX, "*".repeat(60)));
    expect(start).toBeGreaterThan(0);
  });

  it("encrypted key data are not hidden: they are what the wire shows", () => {
    const message = variant("KEMAC", {
      kind: "KEMAC",
      encrAlg: 1,
      encrData: parseHex("0badc0de"),
      macAlg: 1,
      mac: new Uint8Array(20),
    });
    expect(inspectText(formatBase64(encodeMessage(message)))[0]?.octets).toContain("0badc0de");
  });
});

const WILD = new URL("../../../shared/vectors/third-party/wild-mikey-messages.json", import.meta.url);

describe("messages of real peers", () => {
  const vectors = existsSync(WILD) ? (JSON.parse(readFileSync(WILD, "utf8")) as { source: string; base64: string }[]) : [];

  it.skipIf(vectors.length === 0)("wild messages: each is found, decoded and judged", () => {
    for (const { source, base64 } of vectors) {
      const inspections = inspectText(base64);
      expect(inspections, source).toHaveLength(1);
      expect(inspections[0]?.message, source).toBeDefined();
      expect(
        inspections[0]?.problems.map(({ code }) => code).every((code) => code.startsWith("lint.")),
        source,
      ).toBe(true);
    }
    const codes = new Set(
      vectors.flatMap(({ base64 }) => inspectText(base64)).flatMap(({ problems }) => problems.map(({ code }) => code)),
    );
    for (const code of [
      "tag-length-in-type-3",
      "t-filetime",
      "rand-absent",
      "null-keying",
      "trailing-zero",
      "mki-absent",
      "v-in-answer",
      "ssrc-zero",
    ]) {
      expect(codes).toContain(`lint.${code}`);
    }
  });
});

const GOLDEN = new URL("../../../shared/golden/gst/", import.meta.url);

describe("captured RTSP dialogues", () => {
  const files = existsSync(GOLDEN) ? readdirSync(GOLDEN).filter((name) => name.endsWith(".json")) : [];

  it.skipIf(files.length === 0)("dialogues with GStreamer: the messages of SDP and SETUP are found and valid", () => {
    let dialogues = 0;
    for (const name of files) {
      const capture = JSON.parse(readFileSync(new URL(name, GOLDEN), "utf8")) as { rtsp_dialogue?: { text: string }[] };
      if (capture.rtsp_dialogue === undefined) continue;
      dialogues++;
      const inspections = inspectText(capture.rtsp_dialogue.map(({ text }) => text).join(""));
      const places = inspections.map(({ where }) => where.replace(/^line \d+: /, ""));
      expect(places, name).toContain("200 response, a=key-mgmt, media 0");
      expect(places, name).toContain("SETUP request, KeyMgmt");
      for (const { where, valid } of inspections) if (!where.includes("TEARDOWN")) expect(valid, `${name} ${where}`).toBe(true);
    }
    expect(dialogues).toBeGreaterThan(0);
  });
});
