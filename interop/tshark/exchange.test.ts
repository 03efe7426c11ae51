import { beforeAll, expect, it } from "vitest";
import { utf8 } from "../../src/bytes/index.js";
import { createMediaKeying } from "../../src/gsa/index.js";
import {
  type BeginRequest,
  createInitiator,
  createReplayCache,
  createResponder,
  EncrAlg,
  ErrorNo,
  encodeErrorMessage,
  entriesOf,
  IdType,
  type Initiator,
  type KeyKind,
  MacAlg,
  MikeyError,
  PrfFunc,
  type SpDialect,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/index.js";
import { peerProfile } from "../../src/peers/index.js";
import { type SuiteName, suiteNames } from "../../src/srtp/index.js";
import { describePeer } from "../peers.js";
import { type Dissection, dissect } from "./dissect.js";

const clock = { now: () => 1_700_000_000_000 };
const psk = nodeCrypto.hash("sha256", utf8("a pre-shared key of this test"));
const alice = { idType: IdType.URI, data: utf8("sip:alice@example.com") };
const bob = { idType: IdType.URI, data: utf8("sip:bob@example.com") };

const initiator: Initiator = createInitiator({ crypto: nodeCrypto, clock, allowNullKeying: true });

const newResponder = (key: Uint8Array = psk) =>
  createResponder({
    crypto: nodeCrypto,
    clock,
    findCredential: () => ({ psk: key }),
    replayCache: createReplayCache(),
    allowNullKeying: true,
    identity: bob,
    tolerances: ["concatenated-key-and-salt"],
    policyAccepted: () => true,
  });

function request(suite: SuiteName, change: Partial<BeginRequest> = {}): BeginRequest {
  return {
    credential: { psk },
    initiatorId: alice,
    responderId: bob,
    cryptoSessions: [{ ssrc: 0x01020304 }, {}],
    policies: new Map([[0, { suite }]]),
    // Four octets before the key: 24 in all are what AES key wrap can take without padding.
    keys: [{ kind: "TGK", length: 20 }],
    ...change,
  };
}

interface Row {
  readonly name: string;
  readonly octets: Uint8Array;
  /** The chain of payload types, from the header's on, where tshark reads it to its end. */
  readonly chain?: readonly number[];
  /** Something that tshark 4.0 does not know and takes for something else. */
  readonly misread?: boolean;
}

const T = 5;
const RAND = 11;
const ID = 6;
const SP = 10;
const KEMAC = 1;
const V = 9;
const EXT = 21;
const LAST = 0;

/** An exchange: the request, what answers it, an update and its answer. */
async function exchangeRows(name: string, begin: BeginRequest, readable = true): Promise<Row[]> {
  const responder = newResponder();
  const pending = await initiator.begin(begin);
  const received = await responder.receive(pending.octets, begin.sdpIds === undefined ? {} : { sdpIds: begin.sdpIds });
  if (received.kind !== "new" || received.response === undefined) throw new Error("no answer");
  const agreed = await pending.complete(received.response);
  const update = await initiator.update(agreed, { keys: [{ kind: "TGK", length: 23, spi: Uint8Array.of(0, 0, 0, 9) }] });
  const updated = await responder.receive(update.octets, { csb: received.csb });
  if (updated.kind !== "update" || updated.response === undefined) throw new Error("no answer to the update");
  await update.complete(updated.response);
  const extensions = begin.sdpIds === undefined ? [] : [EXT];
  return [
    { name: `${name}: I_MESSAGE`, octets: pending.octets, ...chain(readable, T, RAND, ID, ID, SP, ...extensions, KEMAC, LAST) },
    { name: `${name}: R_MESSAGE`, octets: received.response, ...chain(readable, T, ID, V, LAST) },
    { name: `${name}: update`, octets: update.octets, ...chain(readable, T, KEMAC, LAST) },
    { name: `${name}: answer to the update`, octets: updated.response, ...chain(readable, T, ID, V, LAST) },
  ];
}

/** tshark 4.0 does not know HMAC-SHA-256 and stops at a MAC of that kind, without a complaint. */
function chain(readable: boolean, ...types: readonly number[]): { readonly chain?: readonly number[] } {
  return readable ? { chain: types } : {};
}

const pskRows: readonly Promise<Row[]>[] = [
  ...suiteNames.map((suite) => exchangeRows(`PSK, ${suite}`, request(suite))),
  exchangeRows("PSK with SDP IDs", request("AES_CM_128_HMAC_SHA1_80", { sdpIds: ["mikey"] })),
  exchangeRows("PSK, AES key wrap", request("AES_CM_128_HMAC_SHA1_80", { encrAlg: EncrAlg.AES_KW_128 })),
  exchangeRows(
    "PSK, SHA-256 and AES-CM-256",
    request("AES_256_CM_HMAC_SHA1_80", { prf: PrfFunc.HMAC_SHA_256, encrAlg: EncrAlg.AES_CM_256, macAlg: MacAlg.HMAC_SHA_256_256 }),
    false,
  ),
];

const KEY_KINDS: readonly KeyKind[] = ["TGK", "TGK+SALT", "TEK", "TEK+SALT"];
const DIALECTS: readonly SpDialect[] = ["base", "gstreamer", "onvif"];

const nullRows: readonly Promise<Row>[] = DIALECTS.flatMap((spDialect) =>
  (["AES_CM_128_HMAC_SHA1_80", "AES_256_CM_HMAC_SHA1_80", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"] as const).flatMap((suite) =>
    KEY_KINDS.map(async (kind) => {
      const spi = Uint8Array.of(1, 2, 3, 4);
      const begin = request(suite, { credential: { nullKeying: true }, omitIdentities: true, spDialect, keys: [{ kind, spi }] });
      const name = `NULL keyed, ${spDialect}, ${suite}, ${kind}`;
      return { name, octets: (await initiator.begin(begin)).octets, ...chain(true, T, RAND, SP, KEMAC, LAST) };
    }),
  ),
);

const mapRows: readonly Promise<Row>[] = ([0, 1, 2] as const).map(async (mapType) => {
  const policies: BeginRequest["policies"] =
    mapType === 1 ? new Map() : new Map([[0, { suite: "AES_CM_128_HMAC_SHA1_80" as const }]]);
  const pending = await initiator.begin(
    request("AES_CM_128_HMAC_SHA1_80", { mapType, policies, cryptoSessions: mapType === 1 ? [] : [{ ssrc: 7 }] }),
  );
  const types = mapType === 1 ? [T, RAND, ID, ID, KEMAC, LAST] : [T, RAND, ID, ID, SP, KEMAC, LAST];
  // GENERIC-ID (RFC 6043) is not known to tshark 4.0, which reads the map's octets as payloads and stumbles.
  return { name: `CS ID map type ${mapType}`, octets: pending.octets, misread: mapType === 2, ...chain(mapType !== 2, ...types) };
});

const errorRows: Row[] = entriesOf(ErrorNo).map(({ value, name }) => {
  const failed = { prf: 0, csbId: 0x0badcafe };
  const timestamp = { tsType: 0, value: Uint8Array.of(0xec, 0x89, 0x8d, 0xa8, 0, 0, 0, 0) };
  const supported = [{ suite: "AES_CM_128_HMAC_SHA1_80" as const }];
  return { name: `ERR ${name}`, octets: encodeErrorMessage(nodeCrypto, failed, timestamp, value, { supported }) };
});

async function refusal(octets: Uint8Array, key: Uint8Array): Promise<Uint8Array> {
  try {
    await newResponder(key).receive(octets);
  } catch (error) {
    if (error instanceof MikeyError && error.reply !== undefined) return error.reply;
    throw error;
  }
  throw new Error("it was accepted");
}

const refusalRow: Row = {
  name: "ERR in answer to a wrong key",
  octets: await refusal((await initiator.begin(request("AES_CM_128_HMAC_SHA1_80"))).octets, new Uint8Array(32).fill(1)),
};

/** A session as RTSP has it: the offer with HELLO, its answer, the de-registration and its acknowledgement (docs/protocol.md). */
async function registrationRows(): Promise<Row[]> {
  const timers = { after: () => ({ cancel() {} }), every: () => ({ cancel() {} }) };
  const end = { clock, timers, crypto: nodeCrypto, dialect: peerProfile("strict"), findCredential: () => ({ psk }) };
  const [server, client] = [createMediaKeying({ ...end, identity: alice }), createMediaKeying({ ...end, identity: bob })];
  const streams = [{ policy: { suite: "AES_CM_128_HMAC_SHA1_80" as const }, ssrc: 7 }];
  const sdpIds = ["mikey"];
  const offer = await server.offer({ credential: { psk }, streams, secure: false, responderId: bob, sdpIds, peerAnnounced: true });
  const answer = await client.answer(offer.octets, { secure: false, ssrcs: [8], scope: "1", sdpIds });
  if (answer.kind !== "new" || answer.response === undefined) throw new Error("no answer");
  const media = await offer.accept(answer.response);
  const request = answer.media.deregister();
  const { verdict, acknowledgement } = media.acceptDeregistration(request);
  if (request === undefined || acknowledgement === undefined) throw new Error(`de-registration ${verdict}`);
  return [
    { name: "offer with HELLO", octets: offer.octets },
    { name: "answer with HELLO", octets: answer.response },
    { name: "de-registration, private data type 243", octets: request },
    { name: "de-registration acknowledgement, private data type 244", octets: acknowledgement },
  ];
}

const rows: readonly Row[] = [
  ...(await registrationRows()),
  ...(await Promise.all(pskRows)).flat(),
  ...(await Promise.all([...nullRows, ...mapRows])),
  ...errorRows,
  refusalRow,
];

describePeer("tshark", "messages of our exchanges [dissects our messages]", () => {
  let seen: Dissection[];
  beforeAll(async () => {
    seen = await dissect(rows.map(({ octets }) => octets));
  });

  it.each(rows.map((row, index) => ({ ...row, index })))("$name", ({ index, octets, misread, chain: types }) => {
    const dissection = seen[index] as Dissection;
    expect(dissection.isMikey).toBe(true);
    if (misread !== true) expect(dissection.complaints).toEqual([]);
    expect(dissection.values("mikey.type").map(Number)).toEqual([octets[1]]);
    if (types !== undefined) expect(dissection.values("mikey.next_payload").map(Number)).toEqual(types);
  });
});
