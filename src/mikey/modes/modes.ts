import { MikeyError } from "../errors.js";
import type { PayloadKind } from "../message.js";
import { DataType } from "../registry.js";
import type { Grammar } from "./grammar.js";

/** The modes that are spoken here. NULL keying is mode PSK without a key (RFC 3830 §4.2.3). */
export type ModeName = "PSK" | "PK" | "DH" | "DHHMAC" | "RSA-R";

/** One way of keying: its messages, and what the engine has to know of them. */
export interface Mode {
  readonly name: ModeName;
  readonly requestType: number;
  readonly responseType: number;
  readonly request: Grammar;
  readonly response: Grammar;
  /** A CSB update (RFC 3830 §4.5): static payloads are left out, and RAND is. */
  readonly update: Grammar;
  readonly updateResponse: Grammar;
  /** What the parties prove themselves by: a key that they share, or key pairs. */
  readonly credential: "psk" | "key-pair";
  /** Who brings the keys: one of the parties in a KEMAC, or both by a Diffie-Hellman agreement. */
  readonly keys: "initiator" | "responder" | "agreement";
  /** Whether a KEMAC is protected by an envelope key and begins with its sender's identity (RFC 3830 §3.2). */
  readonly envelope: boolean;
  /** Whether a response comes because the V flag asks for it, or always; the flag is then meaningless (RFC 3830 §6.1). */
  readonly answers: "requested" | "always";
  /** Whether Identity_i, Identity_r and T stand behind the response in what authenticates it (RFC 3830 §5.2, RFC 4738 §3.6). */
  readonly suffix: boolean;
  /** Whose identity a lone ID payload of a request is. */
  readonly loneId: "initiator" | "responder";
  /** Who sends RAND: the Initiator, or the one of the two who is left to (RFC 4738 §3.6). */
  readonly rand: "initiator" | "either";
}

type Counts = Partial<Record<PayloadKind, readonly [least: number, most: number]>>;

/** IDi, IDr and their certificates may be left out where the other side knows them from elsewhere (RFC 3830 §3). */
const named: Counts = { T: [1, 1], ID: [0, 2], EXT: [0, 16] };
const certified: Counts = { ...named, CERT: [0, 8] };
const policies: Counts = { SP: [0, 255] };
const rand: Counts = { RAND: [1, 1] };
const verification: Grammar = { counts: { T: [1, 1], ID: [0, 1], EXT: [0, 16], V: [1, 1] }, last: ["V"] };

/** SIGN is RFC 3830's; SIGNX is of docs/protocol.md. */
function signed(...parts: readonly Counts[]): Grammar {
  return { counts: Object.assign({ SIGN: [0, 1], SIGNX: [0, 1] }, ...parts) as Counts, last: ["SIGN", "SIGNX"] };
}

function maced(...parts: readonly Counts[]): Grammar {
  return { counts: Object.assign({ KEMAC: [1, 1] }, ...parts) as Counts, last: ["KEMAC"] };
}

/**
 * Pre-shared key (RFC 3830 §3.1, §4.5):
 * I = HDR, T, RAND, [IDi], [IDr], {SP}, KEMAC and R = HDR, T, [IDr], V.
 */
const PSK: Mode = {
  name: "PSK",
  requestType: DataType.PSK_INIT,
  responseType: DataType.PSK_RESP,
  request: maced(named, policies, rand),
  response: verification,
  update: maced(named, policies),
  updateResponse: verification,
  credential: "psk",
  keys: "initiator",
  envelope: false,
  answers: "requested",
  suffix: true,
  loneId: "initiator",
  rand: "initiator",
};

/** PKE and KEMAC of one message. The KEMAC of an update may hold no keys; its encrypted IDi ties the envelope to its sender (§6.2). */
const envelope: Counts = { KEMAC: [1, 1], PKE: [1, 1] };

/**
 * Public key (RFC 3830 §3.2, §4.5):
 * I = HDR, T, RAND, [IDi|CERTi], [IDr], {SP}, KEMAC, [CHASH], PKE, SIGNi and R = HDR, T, [IDr], V.
 */
const PK: Mode = {
  name: "PK",
  requestType: DataType.PK_INIT,
  responseType: DataType.PK_RESP,
  request: signed(certified, policies, rand, envelope, { CHASH: [0, 1] }),
  response: verification,
  update: signed(certified, policies, envelope, { CHASH: [0, 1] }),
  updateResponse: verification,
  credential: "key-pair",
  keys: "initiator",
  envelope: true,
  answers: "requested",
  suffix: true,
  loneId: "initiator",
  rand: "initiator",
};

/** Both values or none, as the update has one or none (RFC 3830 §4.5); the engine checks which. */
const bothValues: Counts = { DH: [2, 2] };
const bothOrNone: Counts = { DH: [0, 2] };
/** A response names the Initiator always (RFC 3830 §3.3, RFC 4650 §3). */
const initiatorNamed: Counts = { ID: [1, 2] };

/**
 * Diffie-Hellman (RFC 3830 §3.3, §4.5):
 * I = HDR, T, RAND, [IDi|CERTi], [IDr], {SP}, DHi, SIGNi and R = HDR, T, [IDr|CERTr], IDi, DHr, DHi, SIGNr.
 */
const DH: Mode = {
  name: "DH",
  requestType: DataType.DH_INIT,
  responseType: DataType.DH_RESP,
  request: signed(certified, policies, rand, { DH: [1, 1] }),
  response: signed(certified, initiatorNamed, bothValues),
  update: signed(certified, policies, { DH: [0, 1] }),
  updateResponse: signed(certified, initiatorNamed, bothOrNone),
  credential: "key-pair",
  keys: "agreement",
  envelope: false,
  answers: "always",
  suffix: false,
  loneId: "initiator",
  rand: "initiator",
};

/**
 * Diffie-Hellman under a pre-shared key (RFC 4650 §3, §3.1):
 * I = HDR, T, RAND, [IDi], IDr, {SP}, DHi, KEMAC and R = HDR, T, [IDr], IDi, DHr, DHi, KEMAC; the KEMACs hold nothing but a MAC (§4.2).
 */
const DHHMAC: Mode = {
  name: "DHHMAC",
  requestType: DataType.DHHMAC_INIT,
  responseType: DataType.DHHMAC_RESP,
  request: maced(named, policies, rand, { ID: [1, 2], DH: [1, 1] }),
  response: maced(named, initiatorNamed, bothValues),
  update: maced(named, policies, { ID: [1, 2], DH: [0, 1] }),
  updateResponse: maced(named, initiatorNamed, bothOrNone),
  credential: "psk",
  keys: "agreement",
  envelope: false,
  answers: "always",
  suffix: false,
  loneId: "responder",
  rand: "initiator",
};

/**
 * RSA in the reverse direction (RFC 4738 §3): the Responder makes the keys.
 * I = HDR, T, [RAND], [IDi|CERTi], [IDr], {SP}, SIGNi and
 * R = HDR, [GenExt(CSB_ID)], T, [RAND], [IDr|CERTr], [SP], KEMAC, PKE, SIGNr. In a group I has no SP, R has CSB_ID, RAND and SP.
 */
const RSA_R: Mode = {
  name: "RSA-R",
  requestType: DataType.RSAR_INIT,
  responseType: DataType.RSAR_RESP,
  request: signed(certified, policies, { RAND: [0, 1] }),
  response: signed(certified, policies, envelope, { ID: [0, 1], RAND: [0, 1] }),
  update: signed(certified, policies),
  updateResponse: signed(certified, policies, envelope, { ID: [0, 1] }),
  credential: "key-pair",
  keys: "responder",
  envelope: true,
  answers: "always",
  suffix: true,
  loneId: "initiator",
  rand: "either",
};

/** Every mode, once: the dispatcher of the engine. */
export const MODES: Readonly<Record<ModeName, Mode>> = { PSK, PK, DH, DHHMAC, "RSA-R": RSA_R };

const BY_REQUEST: ReadonlyMap<number, Mode> = new Map(Object.values(MODES).map((mode) => [mode.requestType, mode]));

/** The mode whose initial message or update has this data type; undefined where none is spoken. */
export function modeOf(dataType: number): Mode | undefined {
  return BY_REQUEST.get(dataType);
}

/** @throws MikeyError `mikey.option` for a name that is none */
export function modeNamed(name: ModeName): Mode {
  const mode = (MODES as Readonly<Partial<Record<string, Mode>>>)[name];
  if (mode === undefined) throw new MikeyError("mikey.option", `there is no mode ${name}`);
  return mode;
}
