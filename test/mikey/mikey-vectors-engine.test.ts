import { describe, expect, it } from "vitest";
import { formatHex, parseHex } from "../../src/bytes/index.js";
import {
  type BeginRequest,
  type CryptoSessionRequest,
  type Csb,
  createInitiator,
  createReplayCache,
  createResponder,
  createToleranceUse,
  decodeMessage,
  decodeNtp,
  decodeSdpIds,
  type GeneralExtensionPayload,
  type Identity,
  isCounter,
  type KeyRequest,
  MikeyError,
  MikeyPeerError,
  payloadsOf,
  type ReceiveContext,
  type ResponderOptions,
  srtpMasterKeys,
  srtpPolicyOf,
  type Timestamp,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import type { SrtpPolicy } from "../../src/srtp/index.js";
import {
  type Vector,
  type VectorExchange,
  type VectorIdentity,
  type VectorKeyMaterial,
  type VectorMessage,
  vectorFiles,
} from "./mikey-vectors.js";

/** 2026-01-01, near which all timestamps of the vectors are. */
const NEAR = Date.UTC(2026, 0, 1);
const OCTETS = (hex: string | undefined): Uint8Array => parseHex(hex ?? "");

const timestampOf = ({ timestamp }: VectorExchange): Timestamp => ({ tsType: timestamp.type, value: parseHex(timestamp.value) });
const timeOf = (timestamp: Timestamp): number => (isCounter(timestamp.tsType) ? NEAR : decodeNtp(timestamp.value, NEAR));
const identityOf = (identity: VectorIdentity | null): Identity | undefined =>
  identity === null ? undefined : { idType: identity.type, data: parseHex(identity.data) };
const policyOf = (vector: Vector, policyNo: number): SrtpPolicy => {
  const policy = vector.policies.find((candidate) => candidate.policyNo === policyNo);
  if (policy === undefined) throw new Error(`${vector.name} has no policy ${policyNo}`);
  return { suite: policy.suite };
};
const policiesOf = (vector: Vector): Map<number, SrtpPolicy> =>
  new Map(vector.mapType === 1 ? [] : vector.policies.map(({ policyNo, suite }) => [policyNo, { suite }]));

/** What an exchange leaves, as the vector has it. */
function expectMasterKeys(vector: Vector, exchange: VectorExchange, csb: Csb): void {
  expect(csb.cryptoSessions.map(({ csId }) => csId)).toEqual(exchange.cryptoSessions.map(({ csId }) => csId));
  for (const { csId, policyNo, ssrc, roc, masterKeys } of exchange.cryptoSessions) {
    if (vector.mapType !== 1)
      expect(csb.cryptoSessions.find((session) => session.csId === csId)).toMatchObject({ ssrc: Number.parseInt(ssrc, 16), roc });
    const derived = srtpMasterKeys(nodeCrypto, csb, csId, policyOf(vector, policyNo));
    expect(
      derived.map(({ key, salt, mki, interval }) => ({
        tek: formatHex(key),
        salt: formatHex(salt),
        ...(mki === undefined ? {} : { spi: formatHex(mki) }),
        ...(interval === undefined ? {} : { interval: [interval.from, interval.to] }),
      })),
    ).toEqual(
      masterKeys.map(({ tek, salt, spi, interval }) => ({
        tek,
        salt,
        ...(spi === undefined ? {} : { spi }),
        ...(interval === undefined ? {} : { interval }),
      })),
    );
  }
}

/** The sessions of a message as an Initiator asks for them. */
function sessionRequests(message: VectorMessage): CryptoSessionRequest[] {
  const { csMap } = decodeMessage(parseHex(message.octets)).header;
  if (csMap.entries === undefined) return Array.from({ length: csMap.count }, () => ({}));
  return csMap.entries.map((entry): CryptoSessionRequest => {
    if ("ssrc" in entry) return entry;
    const view = new DataView(entry.sessionData.buffer, entry.sessionData.byteOffset);
    return {
      csId: entry.csId,
      policyNo: entry.policyNos[0] as number,
      ssrc: view.getUint32(0),
      spi: entry.spi,
      ...(entry.rocAndSeqPresent ? { roc: view.getUint32(4), seq: view.getUint16(8) } : {}),
    };
  });
}

const keyRequest = ({ type, key, salt, spi, interval }: VectorKeyMaterial): KeyRequest => ({
  kind: type,
  value: parseHex(key),
  ...(salt === undefined ? {} : { salt: parseHex(salt) }),
  ...(spi === undefined ? {} : { spi: parseHex(spi) }),
  ...(interval === undefined ? {} : { interval: { from: interval[0], to: interval[1] } }),
});

/** Extensions that are the application's, and the list that the engine writes itself. */
function extensionsOf(message: VectorMessage): { sdpIds?: string[]; extensions: GeneralExtensionPayload[] } {
  const all = payloadsOf(decodeMessage(parseHex(message.octets)), "EXT");
  const list = all.find(({ extType }) => extType === 1);
  return {
    ...(list === undefined ? {} : { sdpIds: decodeSdpIds(list.data) }),
    extensions: all.filter(({ extType }) => extType !== 1),
  };
}

const first = (vector: Vector): VectorExchange => vector.exchanges[0] as VectorExchange;
const wantsResponse = (message: VectorMessage): boolean => decodeMessage(parseHex(message.octets)).header.verificationRequested;

function responder(vector: Vector, options: Partial<ResponderOptions> = {}) {
  const clock = { time: NEAR, now: () => clock.time };
  const made = createResponder({
    crypto: nodeCrypto,
    clock,
    replayCache: createReplayCache(),
    findCredential: () => ({ psk: OCTETS(vector.psk) }),
    acceptCounter: true,
    tolerances: ["concatenated-key-and-salt"],
    policyAccepted: () => true,
    ...(vector.responder === null ? {} : { identity: identityOf(vector.responder) as Identity }),
    ...options,
  });
  const receive = (exchange: VectorExchange, csb?: Csb) => {
    clock.time = timeOf(timestampOf(exchange));
    const { sdpIds } = extensionsOf(exchange.iMessage);
    const answered = exchange.cryptoSessions;
    const context: ReceiveContext = {
      secure: vector.psk === undefined && vector.credentials === undefined,
      peerId: identityOf(vector.initiator) as Identity,
      ssrcFor: (csId) => Number.parseInt(answered.find((session) => session.csId === csId)?.ssrc ?? "0", 16),
      ...(csb === undefined ? {} : { csb }),
      ...(sdpIds === undefined ? {} : { sdpIds }),
    };
    return made.receive(parseHex(exchange.iMessage.octets), context);
  };
  return { receive };
}

function initiator(vector: Vector) {
  let current = first(vector);
  const made = createInitiator({
    crypto: nodeCrypto,
    clock: { now: () => timeOf(timestampOf(current)) },
    timestamps: { next: () => timestampOf(current) },
  });
  const change = (exchange: VectorExchange) => ({
    requestResponse: wantsResponse(exchange.iMessage),
    ...extensionsOf(exchange.iMessage),
    padKeyWrap: exchange.iMessage.kemac?.keyDataFields.some(({ field }) => field === "padding") === true,
  });
  return {
    begin: (changes: Partial<BeginRequest> = {}) => {
      const { iMessage, keys } = first(vector);
      const ids = payloadsOf(decodeMessage(parseHex(iMessage.octets)), "ID");
      const responderId = identityOf(vector.responder);
      return made.begin({
        credential: vector.psk === undefined ? { nullKeying: true } : { psk: parseHex(vector.psk) },
        secure: vector.psk === undefined,
        initiatorId: identityOf(vector.initiator) as Identity,
        ...(responderId === undefined ? {} : { responderId }),
        omitIdentities: ids.length === 0,
        mapType: vector.mapType,
        cryptoSessions: sessionRequests(iMessage),
        policies: policiesOf(vector),
        keys: keys.map(keyRequest),
        prf: vector.prfFunc,
        encrAlg: iMessage.kemac?.encrAlg ?? 0,
        macAlg: iMessage.kemac?.macAlg ?? 0,
        csbId: Number.parseInt(vector.csbId, 16),
        rand: parseHex(vector.rand),
        ...change(first(vector)),
        ...changes,
      });
    },
    update: (csb: Csb, exchange: VectorExchange) => {
      current = exchange;
      const rekeyed = exchange.iMessage.kemac?.keyData !== "";
      return made.update(csb, {
        ...change(exchange),
        cryptoSessions: sessionRequests(exchange.iMessage),
        ...(rekeyed ? { keys: exchange.keys.map(keyRequest) } : {}),
      });
    },
  };
}

/** Vectors whose I_MESSAGE the engine refuses by policy, and how. */
const REFUSED: Readonly<Record<string, string>> = {
  // Keys in the clear under a MAC.
  "psk-null-encryption": "mikey.encryption-algorithm",
};

/** The engine names the Responder always where it knows who it is. */
const NAMED_ANYWAY: readonly string[] = ["psk-identities-elsewhere"];

/** An update may repeat the identities; ours leaves out what is known (RFC 3830 §4.5). */
const namesPartiesAgain = ({ kind, iMessage }: VectorExchange): boolean =>
  kind === "update" && payloadsOf(decodeMessage(parseHex(iMessage.octets)), "ID").length > 0;

const vectors = vectorFiles.flatMap((file) => file.vectors).filter(({ mode }) => mode === "PSK");
const accepted = vectors.filter(({ name }) => REFUSED[name] === undefined);

describe("our Responder", () => {
  it.each(accepted.map((vector) => [vector.name, vector] as const))("%s", async (_name, vector) => {
    const { receive } = responder(vector);
    let csb: Csb | undefined;
    for (const exchange of vector.exchanges) {
      const received = await receive(exchange, csb);
      if (received.kind === "repeated") throw new Error("the message was taken for a repetition");
      expect(received.kind).toBe(exchange.kind === "initial" ? "new" : "update");
      expectMasterKeys(vector, exchange, received.csb);
      if (!NAMED_ANYWAY.includes(vector.name))
        expect(formatHex(received.response ?? new Uint8Array())).toBe(exchange.rMessage?.octets ?? "");
      csb = received.csb;
    }
  });

  it.each(Object.entries(REFUSED))("%s is refused: %s", async (name, code) => {
    const vector = vectors.find((candidate) => candidate.name === name) as Vector;
    await expect(responder(vector).receive(first(vector))).rejects.toMatchObject({ code });
  });
});

const refusals = vectors.filter((vector) => first(vector).errMessage !== undefined);

describe("our Responder refuses", () => {
  it.each(refusals.map((vector) => [vector.name, vector] as const))("%s: says what would be acceptable", async (_name, vector) => {
    const octets = first(vector).errMessage?.octets ?? "";
    const supported = payloadsOf(decodeMessage(parseHex(octets)), "SP").map(({ params }) =>
      srtpPolicyOf(params, createToleranceUse([])),
    );
    const { receive } = responder(vector, { policyAccepted: () => false, supported });
    const error = await receive(first(vector)).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(MikeyError);
    expect(formatHex((error as MikeyError).reply ?? new Uint8Array())).toBe(octets);
  });
});

describe("our Initiator", () => {
  it.each(accepted.map((vector) => [vector.name, vector] as const))("%s", async (_name, vector) => {
    const { begin, update } = initiator(vector);
    let csb: Csb | undefined;
    for (const exchange of vector.exchanges) {
      const pending = await (csb === undefined ? begin() : update(csb, exchange));
      if (!namesPartiesAgain(exchange)) expect(formatHex(pending.octets)).toBe(exchange.iMessage.octets);
      csb = exchange.rMessage === undefined ? pending.csb : await pending.complete(parseHex(exchange.rMessage.octets));
      expectMasterKeys(vector, exchange, csb);
    }
  });

  it.each(refusals.map((vector) => [vector.name, vector] as const))("%s: understands a refusal", async (_name, vector) => {
    const pending = await initiator(vector).begin();
    const error = await pending.complete(OCTETS(first(vector).errMessage?.octets)).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (!(error instanceof MikeyPeerError)) throw new Error("the ERR message was not understood");
    expect(error.report.authenticated).toBe(true);
    expect(error.report.errorNos).toEqual([10]);
    expect(error.report.policies.length).toBeGreaterThan(0);
  });
});
