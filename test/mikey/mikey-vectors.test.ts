import { describe, expect, it } from "vitest";
import { concatBytes, formatHex, parseHex, utf8 } from "../../src/bytes/index.js";
import type { CryptoProvider } from "../../src/crypto/index.js";
import {
  computeMac,
  coveredOctets,
  createToleranceUse,
  decodeIdentifiedKeys,
  decodeKeyData,
  decodeMessage,
  deriveFromTgk,
  deriveMessageKeys,
  encodeIdentifiedKeys,
  encodeKeyData,
  encodeMessage,
  type KeyData,
  type MessageKeys,
  openKeyData,
  payloadOf,
  payloadsOf,
  prf,
  prfHash,
  sealKeyData,
  srtpPolicyOf,
} from "../../src/mikey/index.js";
import { suiteOf } from "../../src/srtp/index.js";
import { backends } from "./crypto-backends.js";
import {
  type LocatedMessage,
  type Vector,
  type VectorExchange,
  type VectorField,
  vectorFiles,
  vectorMessages,
} from "./mikey-vectors.js";

const rows = vectorMessages.map((located) => [located.title, located] as const);

const csbIdOf = (vector: Vector): number => Number.parseInt(vector.groupCsbId ?? vector.csbId, 16);
const timestampOf = ({ timestamp }: VectorExchange): { tsType: number; value: Uint8Array } => ({
  tsType: timestamp.type,
  value: parseHex(timestamp.value),
});
/** Who the KEMAC of a mode names as its sender, inside the encryption. */
const namesSender = ({ vector, message }: LocatedMessage): boolean => message.envelope !== undefined && vector.mode !== "PSK";

function messageKeys(crypto: CryptoProvider, vector: Vector, inkey: string, encrAlg: number, macAlg: number): MessageKeys {
  const context = { prf: vector.prfFunc, csbId: csbIdOf(vector), rand: parseHex(vector.rand) };
  return deriveMessageKeys(crypto, context, parseHex(inkey), encrAlg, macAlg);
}

/** The fields tile the octets: nothing is left out, nothing stands twice. */
function expectTiled(octets: string, fields: readonly VectorField[]): void {
  let at = 0;
  for (const field of fields) {
    expect(field.at, field.field).toBe(at);
    at += field.hex.length / 2;
  }
  expect(fields.map(({ hex }) => hex).join("")).toBe(octets);
}

describe("messages", () => {
  it.each(rows)("%s: decodes field by field, and encodes to the same octets", (_, { vector, exchange, message, from }) => {
    const octets = parseHex(message.octets);
    expectTiled(message.octets, message.fields);
    const decoded = decodeMessage(octets);
    expect(formatHex(encodeMessage(decoded))).toBe(message.octets);
    expect(decoded.header).toMatchObject({ prf: vector.prfFunc, csbId: Number.parseInt(vector.csbId, 16) });
    expect(decoded.payloads.filter(({ kind }) => kind === "T")).toEqual([{ kind: "T", ...timestampOf(exchange) }]);
    if (from === "responder") expect(decoded.header.verificationRequested).toBe(false);
    // Both decoders cut the message into the same payloads at the same places.
    const starts = decoded.spans.map(({ start }) => start);
    const firstFields = message.fields.filter(({ field }) => /^(?!HDR).*\.next payload$|^SIGN\.S type/.test(field));
    expect(firstFields.map(({ at }) => at)).toEqual(starts);
    for (const rand of payloadsOf(decoded, "RAND")) {
      if (from === vector.randBy) expect(formatHex(rand.rand)).toBe(vector.rand);
    }
  });

  it("are of every mode, from both sides, with updates and errors", () => {
    const types = new Set(vectorMessages.map(({ message }) => message.octets.slice(2, 4)));
    expect([...types].sort()).toEqual(["00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "0a"]);
    for (const mode of ["PSK", "PK", "DH", "DHHMAC", "RSA-R"]) {
      const own = vectorMessages.filter(({ vector }) => vector.mode === mode);
      expect(own.some(({ exchange, from }) => exchange.kind === "update" && from === "initiator")).toBe(true);
      expect(own.some(({ exchange, from }) => exchange.kind === "update" && from === "responder")).toBe(true);
      expect(own.some(({ exchange }) => exchange.errMessage !== undefined)).toBe(true);
    }
  });
});

describe.each(backends)("protection, %s", (_, crypto) => {
  const sealed = rows.filter(([, { message }]) => message.kemac !== undefined);

  it.each(sealed)("%s: KEMAC", (_title, located) => {
    const { vector, exchange, message } = located;
    const kemac = message.kemac as NonNullable<typeof message.kemac>;
    const decoded = decodeMessage(parseHex(message.octets));
    const payload = payloadOf(decoded, "KEMAC");
    expect(payload).toMatchObject({ encrAlg: kemac.encrAlg, macAlg: kemac.macAlg });
    expect(formatHex(payload?.encrData as Uint8Array)).toBe(kemac.encrData);
    expect(formatHex(payload?.mac as Uint8Array)).toBe(kemac.mac);
    expectTiled(kemac.keyData, kemac.keyDataFields);
    if (kemac.inkey === "") return;
    const keys = messageKeys(crypto, vector, kemac.inkey, kemac.encrAlg, kemac.macAlg);
    expect(formatHex(keys.encryptionKey)).toBe(kemac.encrKey);
    expect(formatHex(keys.salt)).toBe(kemac.saltKey);
    expect(formatHex(keys.authenticationKey)).toBe(kemac.authKey);
    // Both ways.
    if (kemac.encrAlg !== 0) {
      const context = { csbId: csbIdOf(vector), timestamp: timestampOf(exchange) };
      expect(formatHex(sealKeyData(crypto, kemac.encrAlg, keys, context, parseHex(kemac.keyData)))).toBe(kemac.encrData);
      expect(formatHex(openKeyData(crypto, kemac.encrAlg, keys, context, parseHex(kemac.encrData)))).toBe(kemac.keyData);
    }
    if (kemac.macAlg !== 0) expect(formatHex(computeMac(crypto, kemac.macAlg, keys, parseHex(kemac.macInput)))).toBe(kemac.mac);
  });

  it.each(sealed)("%s: what the MAC of the KEMAC covers", (_title, located) => {
    const { message } = located;
    const decoded = decodeMessage(parseHex(message.octets));
    const macLength = (message.kemac?.mac.length as number) / 2;
    const index = decoded.payloads.findIndex(({ kind }) => kind === "KEMAC");
    const { start, end } = decoded.spans[index] as { start: number; end: number };
    // PK and RSA-R: the payload alone, as if it were the last one (RFC 3830 §6.2). Elsewhere the message.
    const covered = namesSender(located)
      ? concatBytes(Uint8Array.of(0), decoded.octets.subarray(start + 1, end - macLength))
      : decoded.octets.subarray(0, end - macLength);
    expect(formatHex(covered)).toBe(message.kemac?.macInput);
  });

  it.each(sealed)("%s: key data", (_title, located) => {
    const { vector, message, from, exchange } = located;
    const octets = parseHex(message.kemac?.keyData as string);
    const padding = message.kemac?.keyDataFields.find(({ field }) => field === "padding")?.hex ?? "";
    const unpadded = octets.subarray(0, octets.length - padding.length / 2);
    let keys: readonly KeyData[];
    if (namesSender(located)) {
      const identified = decodeIdentifiedKeys(unpadded);
      expect(formatHex(encodeIdentifiedKeys(identified))).toBe(formatHex(unpadded));
      expect(formatHex(identified.id.data)).toBe(vector[from]?.data);
      keys = identified.keys;
    } else {
      keys = decodeKeyData(unpadded);
      expect(formatHex(encodeKeyData(keys))).toBe(formatHex(unpadded));
    }
    if (keys.length > 0) expect(keys.map(({ key }) => formatHex(key))).toEqual(exchange.keys.map(({ key }) => key));
  });

  const verified = rows.filter(([, { message }]) => message.verification !== undefined);

  it.each(verified)("%s: V", (_title, { vector, exchange, message }) => {
    const { authAlg, authKey, input, mac } = message.verification as NonNullable<typeof message.verification>;
    const decoded = decodeMessage(parseHex(message.octets));
    expect(payloadOf(decoded, "V")?.authAlg).toBe(authAlg);
    // A cached envelope key protects updates too.
    const { iMessage } = exchange;
    const inkey = iMessage.envelope?.envelopeKey ?? iMessage.kemac?.inkey ?? "";
    const keys = messageKeys(crypto, vector, inkey, 0, authAlg);
    expect(formatHex(keys.authenticationKey)).toBe(authKey);
    expect(formatHex(computeMac(crypto, authAlg, keys, parseHex(input)))).toBe(mac);
    const suffix =
      decoded.header.dataType === 6 ? "" : `${vector.initiator.data}${vector.responder?.data ?? ""}${exchange.timestamp.value}`;
    expect(input).toBe(`${formatHex(coveredOctets(decoded))}${suffix}`);
    expect(message.octets.endsWith(mac)).toBe(true);
  });

  const exchanges = vectorFiles.flatMap(({ vectors }) =>
    vectors.flatMap((vector) => vector.exchanges.map((exchange, index) => [`${vector.name} ${index}`, vector, exchange] as const)),
  );

  it.each(exchanges)("%s: master keys", (_title, vector, exchange) => {
    const context = { prf: vector.prfFunc, csbId: csbIdOf(vector), rand: parseHex(vector.rand) };
    for (const session of exchange.cryptoSessions) {
      expect(session.masterKeys.length).toBeGreaterThan(0);
      const policy = vector.policies.find(({ policyNo }) => policyNo === session.policyNo);
      const { keyLength, saltLength } = suiteOf((policy as (typeof vector.policies)[number]).suite);
      for (const derived of session.masterKeys) {
        const material = exchange.keys.find(
          ({ spi, interval }) => spi === derived.spi && String(interval) === String(derived.interval),
        );
        const key = parseHex(material?.key as string);
        if (material?.type.startsWith("TGK") !== true) {
          expect(derived.tek + (material?.salt === undefined ? derived.salt : "")).toBe(material?.key);
          continue;
        }
        expect(formatHex(deriveFromTgk(crypto, context, key, session.csId, "tek", keyLength))).toBe(derived.tek);
        expect(formatHex(prf(crypto, prfHash(vector.prfFunc), key, parseHex(derived.tekLabel as string), 8 * keyLength))).toBe(
          derived.tek,
        );
        if (material.salt !== undefined) expect(derived.salt).toBe(material.salt);
        else expect(formatHex(deriveFromTgk(crypto, context, key, session.csId, "salt", saltLength))).toBe(derived.salt);
      }
    }
  });
});

describe("signatures and policies", () => {
  const signed = rows.filter(([, { message }]) => message.signature !== undefined);

  it.each(signed)("%s: what the signature covers", (_title, { vector, exchange, message }) => {
    const { input, signature } = message.signature as NonNullable<typeof message.signature>;
    const decoded = decodeMessage(parseHex(message.octets));
    // The header of SIGN is covered (RFC 3830 §5.2); the response of RSA-R has the identities and T behind it (RFC 4738 §3.6).
    const suffix =
      decoded.header.dataType === 10 ? `${vector.initiator.data}${vector.responder?.data}${exchange.timestamp.value}` : "";
    const last = decoded.payloads.at(-1);
    if (last?.kind !== "SIGN" && last?.kind !== "SIGNX") throw new Error("the signature is not the last payload");
    // docs/protocol.md §16.3: a label and an empty group.
    const prefix = last.kind === "SIGNX" ? `${formatHex(utf8("ww1 sign"))}00` : "";
    expect(input).toBe(`${prefix}${formatHex(coveredOctets(decoded))}${suffix}`);
    expect(message.octets.endsWith(signature)).toBe(true);
    expect(formatHex(last.signature)).toBe(signature);
  });

  it.each(rows)("%s: SP payloads are the suites that the vector names", (_title, { vector, message, from }) => {
    const decoded = decodeMessage(parseHex(message.octets));
    if (from === "responder") return;
    for (const { policyNo, params } of payloadsOf(decoded, "SP")) {
      const named = vector.policies.find((policy) => policy.policyNo === policyNo);
      expect(srtpPolicyOf(params, createToleranceUse([]))).toEqual({ suite: named?.suite });
    }
  });
});
