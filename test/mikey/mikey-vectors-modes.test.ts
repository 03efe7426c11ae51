import { describe, expect, it } from "vitest";
import { equalBytes, formatHex, parseHex, utf8Text } from "../../src/bytes/index.js";
import type { CertificateReference, CryptoProvider, PrivateKey, SignatureScheme } from "../../src/crypto/index.js";
import { createCertificateVerifier } from "../../src/crypto/x509/index.js";
import {
  type Credential,
  type Csb,
  createInitiator,
  createResponder,
  createToleranceUse,
  cryptoSessionsOf,
  decodeMessage,
  decodeNtp,
  type GeneralExtensionPayload,
  groupOf,
  type Identity,
  type KeyPairCredential,
  type KeyRequest,
  MikeyError,
  type MikeyPolicy,
  payloadOf,
  payloadsOf,
  RFC_3830_ALGORITHMS,
  srtpMasterKeys,
  srtpPolicyOf,
  type Timestamp,
} from "../../src/mikey/index.js";
import type { SrtpPolicy } from "../../src/srtp/index.js";
import { backends } from "./crypto-backends.js";
import {
  type Vector,
  type VectorExchange,
  type VectorFile,
  type VectorIdentity,
  type VectorMessage,
  vectorFiles,
} from "./mikey-vectors.js";

const identityOf = (vector: VectorIdentity | null): Identity | undefined =>
  vector === null ? undefined : { idType: vector.type, data: parseHex(vector.data) };
const sameData = (a: Identity | undefined, b: Identity | undefined): boolean =>
  equalBytes(a?.data ?? new Uint8Array(0), b?.data ?? new Uint8Array(0));

/** A party that draws what the vector drew. */
class Scripted {
  readonly crypto: CryptoProvider;
  /** What `randomBytes` gives next; then it is random. */
  readonly drawn: Uint8Array[] = [];
  agreed: Uint8Array | undefined;
  padding: Uint8Array | undefined;

  constructor(crypto: CryptoProvider) {
    this.crypto = Object.assign(Object.create(crypto) as CryptoProvider, {
      randomBytes: (length: number) => this.drawn.shift() ?? crypto.randomBytes(length),
      agreement: (group: Parameters<CryptoProvider["agreement"]>[0]) => crypto.agreement(group, this.agreed),
      encrypt: (...[key, scheme, plaintext]: Parameters<CryptoProvider["encrypt"]>) =>
        crypto.encrypt(key, scheme, plaintext, this.padding),
    });
  }
}

/** A key of the vectors. Where it signs what the vector signed, the salt or nonce is the vector's. */
function keyPairOf(crypto: CryptoProvider, file: VectorFile, name: string, known: ReadonlyMap<string, string>): KeyPairCredential {
  const entry = file.credentials?.[name];
  if (entry === undefined) throw new Error(`no key ${name}`);
  const privateKey = crypto.importPrivateKey(parseHex(entry.pkcs8));
  const signing: PrivateKey = {
    ...privateKey,
    async sign(scheme: SignatureScheme, message: Uint8Array) {
      const signature = known.get(formatHex(message));
      return signature === undefined ? privateKey.sign(scheme, message) : parseHex(signature);
    },
  };
  return { privateKey: signing, chain: chainOf(file, name) };
}

/** The certificates that a message of the vector shows: none, where they are, or themselves. */
function shownChain(message: VectorMessage, chain: readonly CertificateReference[]): readonly CertificateReference[] {
  const certs = payloadsOf(decodeMessage(parseHex(message.octets)), "CERT");
  const url = certs.find(({ certType }) => certType === 1);
  if (url !== undefined) return [{ url: utf8Text(url.data) as string }];
  return certs.length === 0 ? [] : chain;
}

function chainOf(file: VectorFile, name: string): readonly Uint8Array[] {
  const entry = file.credentials?.[name];
  if (entry === undefined || name === "root") return [];
  const above = entry.issuer === name ? [] : chainOf(file, entry.issuer);
  return [parseHex(entry.certificate), ...above];
}

function policyOf(crypto: CryptoProvider, file: VectorFile, vector: Vector): MikeyPolicy {
  const certificateOf = (name: string): Uint8Array => parseHex(file.credentials?.[name]?.certificate ?? "");
  const certificates =
    file.credentials === undefined
      ? undefined
      : createCertificateVerifier({
          roots: [certificateOf("root")],
          fetchCertificate: async () => certificateOf(vector.credentials?.[0] ?? ""),
          crypto,
        });
  const [initiator, responder] = vector.credentials ?? [];
  const schemes = vector.exchanges.flatMap(({ iMessage, rMessage, errMessage }) =>
    [iMessage, rMessage, errMessage].flatMap((message) => (message?.signature === undefined ? [] : [message.signature.scheme])),
  );
  const encryption = vector.exchanges.flatMap(({ iMessage, rMessage }) =>
    [iMessage, rMessage].flatMap((message) => (message?.envelope === undefined ? [] : [message.envelope.scheme])),
  );
  return {
    ...(schemes.length === 0 ? {} : { signatureSchemes: schemes }),
    encryptionSchemes: encryption.length === 0 ? RFC_3830_ALGORITHMS.encryptionSchemes : encryption,
    ...(certificates === undefined ? {} : { certificates }),
    // PKE: "Cache for CSB" where updates are under the envelope key.
    cacheEnvelopeKeys: vector.exchanges[1]?.iMessage.octets.slice(2, 4) === "00",
    // Who shows no certificate is known by identity.
    findPublicKey: (identity, usage) => {
      if (certified(vector)) return undefined;
      const name = sameData(identity, identityOf(vector.initiator)) ? initiator : responder;
      const entry = file.credentials?.[name ?? ""];
      return entry === undefined || usage === undefined ? undefined : crypto.importPublicKey(parseHex(entry.spki));
    },
  };
}

const certified = (vector: Vector): boolean =>
  payloadsOf(decodeMessage(parseHex((vector.exchanges[0] as VectorExchange).iMessage.octets)), "CERT").length > 0;

function signaturesOf(vector: Vector): ReadonlyMap<string, string> {
  return new Map(
    vector.exchanges.flatMap(({ iMessage, rMessage, errMessage }) =>
      [iMessage, rMessage, errMessage].flatMap((message) =>
        message?.signature === undefined ? [] : [[message.signature.input, message.signature.signature] as const],
      ),
    ),
  );
}

const timestampOf = ({ timestamp }: VectorExchange): Timestamp => ({ tsType: timestamp.type, value: parseHex(timestamp.value) });
const YEAR_2026 = Date.UTC(2026, 0, 1);
const nowOf = (exchange: VectorExchange): number =>
  exchange.timestamp.type === 2 ? YEAR_2026 : decodeNtp(parseHex(exchange.timestamp.value), YEAR_2026);

function keyRequests(exchange: VectorExchange): KeyRequest[] {
  return exchange.keys.map(({ type, key, salt, spi, interval }) => ({
    kind: type,
    value: parseHex(key),
    ...(salt === undefined ? {} : { salt: parseHex(salt) }),
    ...(spi === undefined || spi === "" ? {} : { spi: parseHex(spi) }),
    ...(interval === undefined ? {} : { interval: { from: interval[0], to: interval[1] } }),
  }));
}

const policiesOf = (vector: Vector): ReadonlyMap<number, SrtpPolicy> =>
  new Map(vector.policies.map(({ policyNo, suite }) => [policyNo, { suite }]));

/** Every key of every session is the vector's. */
function expectKeys(crypto: CryptoProvider, csb: Csb, vector: Vector, exchange: VectorExchange): void {
  for (const session of exchange.cryptoSessions) {
    const keys = srtpMasterKeys(crypto, csb, session.csId, policiesOf(vector).get(session.policyNo));
    expect(keys.map(({ key, salt }) => formatHex(key) + formatHex(salt)).sort()).toEqual(
      session.masterKeys.map(({ tek, salt }) => tek + salt).sort(),
    );
  }
}

/** Readings of the RFCs that this library does not follow, or messages that it refuses, and as what. */
const REFUSED: Readonly<Record<string, string>> = {
  "dh-oakley-1": "mikey.group",
  "dh-oakley-2": "mikey.group",
};

/**
 * Where our message is another than the vector's, octet by octet, and why. Everywhere else the octets are the same. An update that repeats
 * identities is always another: ours leaves out what is known (RFC 3830 §4.5).
 */
const OWN_REQUEST: Readonly<Record<string, string>> = {
  "pk-certificate-only": "ours has IDi beside CERTi",
  "pk-sha256": "our CHASH is of SHA-1",
  "pk-pss-sha256": "our certificate, which is good for both, has Cert type 0",
  "pk-aes-kw-null-mac": "ours has a MAC beside the key wrap",
  "rsa-r-group-rand-ignored": "ours sends no RAND that is of no effect",
};
const OWN_RESPONSE: Readonly<Record<string, string>> = {
  "dh-certificates-only": "ours has IDr beside CERTr",
  "dhhmac-sparse": "ours has IDr",
  "pk-identity-only": "ours has IDr",
};

/** Pre-shared keys are in mikey-vectors-engine.test.ts. */
const cases = vectorFiles
  .filter(({ name }) => name !== "mikey-psk.json")
  .flatMap((file) => file.vectors.map((vector) => [vector.name, file, vector] as const));

describe.each(backends)("the responder on %s", (_, crypto) => {
  it.each(cases)("%s", async (name, file, vector) => {
    const script = new Scripted(crypto);
    const [, responderName] = vector.credentials ?? [];
    const initiatorId = identityOf(vector.initiator);
    const policy = policyOf(crypto, file, vector);
    let now = 0;
    const identity = identityOf(vector.responder);
    const responder = createResponder({
      crypto: script.crypto,
      clock: { now: () => now },
      policy,
      acceptCounter: true,
      allowNullKeying: true,
      tolerances: ["concatenated-key-and-salt", "ssrc-zero-or-random", "several-cs-one-policy"],
      policyAccepted: () => true,
      ...(identity === undefined ? {} : { identity }),
      findCredential: (id) => (sameData(id, initiatorId) && vector.psk !== undefined ? { psk: parseHex(vector.psk) } : undefined),
      keyPairs: responderPairs(crypto, file, vector, responderName),
    });
    let csb: Csb | undefined;
    for (const exchange of vector.exchanges) {
      now = nowOf(exchange);
      const { iMessage, rMessage } = exchange;
      if (exchange.dh !== undefined) script.agreed = parseHex(exchange.dh.responderPrivate);
      script.padding = paddingOf(rMessage);
      const envelope = rMessage?.envelope === undefined ? [] : [parseHex(rMessage.envelope.envelopeKey)];
      const rand = vector.randBy === "responder" && vector.groupCsbId === undefined ? [parseHex(vector.rand)] : [];
      script.drawn.splice(0, Number.POSITIVE_INFINITY, ...rand, ...envelope);
      const response = rMessage === undefined ? undefined : decodeMessage(parseHex(rMessage.octets));
      const keys = vector.mode === "RSA-R" ? keyRequests(exchange) : [];
      const sessions = response === undefined ? [] : cryptoSessionsOf(response.header.csMap);
      const received = responder.receive(parseHex(iMessage.octets), {
        secure: true,
        ...(initiatorId === undefined ? {} : { peerId: initiatorId }),
        ...(csb === undefined ? {} : { csb }),
        ssrcFor: (csId) => sessions.find((session) => session.csId === csId)?.ssrc,
        keys: () => keys,
        ...(vector.groupCsbId === undefined
          ? {}
          : {
              group: {
                csbId: Number.parseInt(vector.groupCsbId, 16),
                rand: parseHex(vector.rand),
                policies: policiesOf(vector),
                cryptoSessions: sessions.map(({ csId, policyNo = 0, ssrc, roc }) => ({ csId, policyNo, ssrc, roc })),
                keys,
              },
            }),
        responseExtensions: () =>
          response === undefined ? [] : payloadsOf(response, "EXT").filter(({ extType }) => extType !== 4),
      });
      const expected = name === "pk-oaep-pss-chash" && iMessage.kemac === undefined ? "mikey.grammar" : REFUSED[name];
      if (expected !== undefined) {
        await expect(received).rejects.toMatchObject({ code: expected });
        return;
      }
      const result = await received;
      if (result.kind === "repeated") throw new Error("repeated");
      csb = result.csb;
      expectKeys(crypto, csb, vector, exchange);
      expect(result.response === undefined).toBe(rMessage === undefined);
      if (result.response === undefined) continue;
      const theirs = parseHex((rMessage as VectorMessage).octets);
      expect(contentOf(result.response)).toEqual(contentOf(theirs));
      expect(equalBytes(result.response, theirs), "the same octets").toBe(OWN_RESPONSE[name] === undefined);
    }
  });
});

/** RSA-R 13 is for what cannot be parsed: no policy leads to it. */
const refused = cases.filter(
  ([name, , { exchanges }]) => exchanges[0]?.errMessage !== undefined && name !== "rsa-r-unicast-rand-by-responder",
);

describe.each(backends)("a refusal on %s", (_, crypto) => {
  it.each(refused)("%s", async (_name, file, vector) => {
    const exchange = vector.exchanges[0] as VectorExchange;
    const { octets } = exchange.errMessage as VectorMessage;
    const identity = identityOf(vector.responder);
    const responder = createResponder({
      crypto,
      clock: { now: () => nowOf(exchange) },
      policy: policyOf(crypto, file, vector),
      ...(identity === undefined ? {} : { identity }),
      findCredential: () => (vector.psk === undefined ? undefined : { psk: parseHex(vector.psk) }),
      keyPairs: responderPairs(crypto, file, vector, vector.credentials?.[1]),
      policyAccepted: () => false,
      supported: payloadsOf(decodeMessage(parseHex(octets)), "SP").map(({ params }) =>
        srtpPolicyOf(params, createToleranceUse([])),
      ),
    });
    const error = await responder.receive(parseHex(exchange.iMessage.octets)).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(MikeyError);
    expect(formatHex((error as MikeyError).reply ?? new Uint8Array())).toBe(octets);
  });
});

function paddingOf(message: VectorMessage | undefined): Uint8Array | undefined {
  const padding = message?.envelope?.padding ?? message?.envelope?.seed;
  return padding === undefined ? undefined : parseHex(padding);
}

/** May be left out, or is of no effect (RAND of a member of a group). */
const OPTIONAL: readonly string[] = ["ID", "CERT", "CHASH", "RAND"];

/** What has to be in the message of a vector and in ours; the order is open. */
function contentOf(octets: Uint8Array): unknown {
  const { header, payloads } = decodeMessage(octets);
  const kinds = payloads.map(({ kind }) => kind).filter((kind) => !OPTIONAL.includes(kind));
  return { header, kinds: kinds.sort() };
}

describe.each(backends)("the initiator on %s", (_, crypto) => {
  it.each(cases.filter(([name]) => REFUSED[name] === undefined))("%s", async (name, file, vector) => {
    const script = new Scripted(crypto);
    const [initiatorName, responderName] = vector.credentials ?? [];
    const first = vector.exchanges[0] as VectorExchange;
    const message = decodeMessage(parseHex(first.iMessage.octets));
    const { header } = message;
    let stamp = timestampOf(first);
    let now = nowOf(first);
    const initiator = createInitiator({
      crypto: script.crypto,
      clock: { now: () => now },
      policy: policyOf(crypto, file, vector),
      tolerances: ["concatenated-key-and-salt"],
      timestamps: { next: () => stamp },
    });
    const credential = credentialOf(crypto, file, vector, initiatorName, responderName);
    let csb: Csb | undefined;
    for (const exchange of vector.exchanges) {
      stamp = timestampOf(exchange);
      now = nowOf(exchange);
      const { iMessage, rMessage } = exchange;
      const request = decodeMessage(parseHex(iMessage.octets));
      if (iMessage.kemac === undefined && vector.mode === "PK") return;
      if (exchange.dh !== undefined) script.agreed = parseHex(exchange.dh.initiatorPrivate);
      script.padding = paddingOf(iMessage);
      script.drawn.splice(
        0,
        Number.POSITIVE_INFINITY,
        ...(iMessage.envelope === undefined ? [] : [parseHex(iMessage.envelope.envelopeKey)]),
      );
      const extensions: readonly GeneralExtensionPayload[] = payloadsOf(request, "EXT");
      const before = vector.exchanges[vector.exchanges.indexOf(exchange) - 1];
      const brings = JSON.stringify(before?.keys) !== JSON.stringify(exchange.keys);
      const transported = vector.mode === "PSK" || vector.mode === "PK" || request.header.dataType === 0;
      const keys = transported
        ? keyRequests(exchange)
        : keyRequests(exchange).map(({ spi, interval }) => ({
            kind: "TGK" as const,
            ...(spi === undefined ? {} : { spi }),
            ...(interval === undefined ? {} : { interval }),
          }));
      const kemac = payloadOf(request, "KEMAC");
      const sessions = cryptoSessionsOf(request.header.csMap).map(({ policyNo, ...rest }) => ({
        ...rest,
        ...(policyNo === undefined ? {} : { policyNo }),
      }));
      const initiatorId = identityOf(vector.initiator);
      const named =
        vector.responder !== null && payloadsOf(request, "ID").some(({ data }) => formatHex(data) === vector.responder?.data);
      const responderId =
        named || vector.mode === "PSK" || vector.mode === "PK" || vector.mode === "DHHMAC"
          ? identityOf(vector.responder)
          : undefined;
      const ids = payloadsOf(request, "ID").length;
      const rand = payloadOf(request, "RAND")?.rand;
      const pending =
        csb === undefined
          ? await initiator.begin({
              credential,
              ...(initiatorId === undefined ? {} : { initiatorId }),
              ...(responderId === undefined ? {} : { responderId }),
              omitIdentities: ids === 0 || (ids === 1 && vector.mode === "DHHMAC"),
              mapType: vector.mapType,
              cryptoSessions: sessions,
              policies: vector.groupCsbId !== undefined || vector.mapType === 1 ? new Map() : policiesOf(vector),
              keys: vector.mode === "RSA-R" ? [] : keys,
              ...(vector.groupCsbId === undefined ? {} : { group: true }),
              prf: vector.prfFunc,
              ...(kemac === undefined ? {} : { encrAlg: kemac.encrAlg, macAlg: kemac.macAlg === 0 ? 1 : kemac.macAlg }),
              csbId: header.csbId,
              rand: rand === undefined || vector.groupCsbId !== undefined ? "responder" : rand,
              requestResponse: request.header.verificationRequested,
              extensions,
              padKeyWrap: true,
            })
          : await initiator.update(csb, {
              ...(brings ? { keys } : {}),
              cryptoSessions: sessions,
              policies: new Map(
                payloadsOf(request, "SP").map(({ policyNo, params }) => [policyNo, srtpPolicyOf(params, createToleranceUse([]))]),
              ),
              extensions,
            });
      expect(contentOf(pending.octets)).toEqual(contentOf(request.octets));
      const namesAgain = csb !== undefined && ids > 0;
      expect(equalBytes(pending.octets, request.octets), "the same octets").toBe(OWN_REQUEST[name] === undefined && !namesAgain);
      if (exchange.errMessage !== undefined) {
        await expect(pending.complete(parseHex(exchange.errMessage.octets))).rejects.toMatchObject({ code: "mikey.peer-error" });
      }
      if (rMessage === undefined) return;
      csb = await pending.complete(parseHex(rMessage.octets));
      expectKeys(crypto, csb, vector, exchange);
    }
  });
});

function responderPairs(crypto: CryptoProvider, file: VectorFile, vector: Vector, name: string | undefined): KeyPairCredential[] {
  if (name === undefined) return [];
  const keyPair = keyPairOf(crypto, file, name, signaturesOf(vector));
  const { rMessage } = vector.exchanges[0] as VectorExchange;
  // The certificate of a PK responder is not shown, but CHASH has to find it.
  return [vector.mode === "PK" || rMessage === undefined ? keyPair : { ...keyPair, chain: shownChain(rMessage, keyPair.chain) }];
}

function credentialOf(
  crypto: CryptoProvider,
  file: VectorFile,
  vector: Vector,
  initiatorName: string | undefined,
  responderName: string | undefined,
): Credential {
  const first = vector.exchanges[0] as VectorExchange;
  if (vector.mode === "PSK") return { psk: parseHex(vector.psk as string) };
  if (vector.mode === "DHHMAC") {
    const group = groupOf(first.dh?.group as number);
    return { psk: parseHex(vector.psk as string), mode: "DHHMAC", ...(group === undefined ? {} : { group }) };
  }
  const keyPair = keyPairOf(crypto, file, initiatorName as string, signaturesOf(vector));
  const group = first.dh === undefined ? undefined : groupOf(first.dh.group);
  // CHASH names a certificate; a bare key has none.
  const hashed = payloadOf(decodeMessage(parseHex(first.iMessage.octets)), "CHASH") !== undefined;
  const peer = hashed
    ? { chain: chainOf(file, responderName as string) }
    : { publicKey: crypto.importPublicKey(parseHex(file.credentials?.[responderName as string]?.spki ?? "")) };
  return {
    mode: vector.mode,
    keyPair: { ...keyPair, chain: shownChain(first.iMessage, keyPair.chain) },
    ...(vector.mode === "PK" ? { peer } : {}),
    ...(group === undefined ? {} : { group }),
  };
}
