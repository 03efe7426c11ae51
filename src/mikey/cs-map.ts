import { equalBytes } from "../bytes/index.js";
import type { CryptoSession, KeyMaterial } from "./csb.js";
import { spiOf } from "./csb.js";
import { MikeyError } from "./errors.js";
import type { CsMap, GenericIdEntry } from "./message.js";
import { decodeSrtpSessionData, encodeSrtpSessionData } from "./payloads-content.js";
import { CsMapType, ProtType } from "./registry.js";

/** A crypto session that an Initiator proposes. */
export interface CryptoSessionRequest {
  /** Map type 2 only; elsewhere entry i has CS ID i + 1 (RFC 3830 §6.1.1). Default the same. */
  readonly csId?: number;
  /** Default 0. */
  readonly policyNo?: number;
  /** Default 0: with map type 0 not chosen yet, its sender fills it in. */
  readonly ssrc?: number;
  /** Default 0. */
  readonly roc?: number;
  /** Map type 2 only. */
  readonly seq?: number;
  /** Map type 2 only. */
  readonly spi?: Uint8Array;
}

/** The crypto sessions of a request. @throws MikeyError `mikey.option` */
export function cryptoSessionsFor(mapType: number, requests: readonly CryptoSessionRequest[]): CryptoSession[] {
  if (requests.length > 255) throw new MikeyError("mikey.option", `${requests.length} crypto sessions, at most 255 fit`);
  const sessions = requests.map((request, index): CryptoSession => {
    const csId = request.csId ?? index + 1;
    if (mapType !== CsMapType.GENERIC_ID && csId !== index + 1) {
      throw new MikeyError("mikey.option", `CS ID ${csId}: with map type ${mapType} CS IDs count from 1 (RFC 3830 §6.1.1)`);
    }
    const base = { csId, policyNo: request.policyNo ?? 0, ssrc: request.ssrc ?? 0, roc: request.roc ?? 0 };
    if (mapType === CsMapType.GENERIC_ID) {
      return {
        ...base,
        ...(request.seq === undefined ? {} : { seq: request.seq }),
        ...(request.spi === undefined ? {} : { spi: request.spi.slice() }),
      };
    }
    if (request.seq !== undefined || request.spi !== undefined) {
      throw new MikeyError("mikey.option", "only a GENERIC-ID map carries SEQ and SPI (RFC 6043 §6.1.1)");
    }
    return mapType === CsMapType.EMPTY ? { ...base, policyNo: undefined } : base;
  });
  if (new Set(sessions.map(({ csId }) => csId)).size < sessions.length)
    throw new MikeyError("mikey.option", "two crypto sessions have one CS ID");
  return sessions;
}

/** The CS ID map of a header. @throws MikeyError `mikey.option` for a map type without a published layout */
export function csMapOf(mapType: number, sessions: readonly CryptoSession[]): CsMap {
  switch (mapType) {
    case CsMapType.SRTP_ID:
      return { type: mapType, entries: sessions.map(({ policyNo, ssrc, roc }) => ({ policyNo: policyNo ?? 0, ssrc, roc })) };
    case CsMapType.EMPTY:
      return { type: mapType, count: sessions.length };
    case CsMapType.GENERIC_ID:
      return { type: mapType, entries: sessions.map(genericEntryOf) };
    default:
      throw new MikeyError("mikey.option", `CS ID map type ${mapType} is not supported`);
  }
}

function genericEntryOf({ csId, policyNo, ssrc, roc, seq, spi }: CryptoSession): GenericIdEntry {
  return {
    csId,
    protType: ProtType.SRTP,
    rocAndSeqPresent: seq !== undefined,
    policyNos: policyNo === undefined ? [] : [policyNo],
    sessionData: encodeSrtpSessionData(seq === undefined ? { ssrc } : { ssrc, roc, seq }),
    spi: spi ?? new Uint8Array(0),
  };
}

/** The crypto sessions of a received map. @throws MikeyError `mikey.cs-map`, `mikey.policy` */
export function cryptoSessionsOf(map: CsMap): CryptoSession[] {
  if (map.entries === undefined) {
    return Array.from({ length: map.count }, (_, index) => ({ csId: index + 1, policyNo: undefined, ssrc: 0, roc: 0 }));
  }
  if (map.type === CsMapType.SRTP_ID)
    return map.entries.map(({ policyNo, ssrc, roc }, index) => ({ csId: index + 1, policyNo, ssrc, roc }));
  const sessions = map.entries.map(sessionOfGenericEntry);
  if (new Set(sessions.map(({ csId }) => csId)).size < sessions.length)
    throw new MikeyError("mikey.cs-map", "two crypto sessions have one CS ID");
  return sessions;
}

function sessionOfGenericEntry(entry: GenericIdEntry): CryptoSession {
  if (entry.protType !== ProtType.SRTP) throw new MikeyError("mikey.policy", `crypto session ${entry.csId} is not for SRTP`);
  if (entry.policyNos.length > 1)
    throw new MikeyError("mikey.cs-map", `crypto session ${entry.csId} leaves a choice of policies, which is not supported`);
  // Session data may be absent in the first message (RFC 6043 §6.1.1).
  const data = entry.sessionData.length === 0 ? { ssrc: 0 } : decodeSrtpSessionData(entry.sessionData, entry.rocAndSeqPresent);
  return {
    csId: entry.csId,
    policyNo: entry.policyNos[0],
    ssrc: data.ssrc,
    roc: data.roc ?? 0,
    ...(data.seq === undefined ? {} : { seq: data.seq }),
    ...(entry.spi.length === 0 ? {} : { spi: entry.spi }),
  };
}

/**
 * The sessions as a Responder answers them: SSRCs that were left open are filled in (RFC 3830 §6.1.1), and with map type 2
 * every session names its SPI (RFC 6043 §6.1.1).
 * @param ssrcFor the SSRC of a session that the Responder sends, or undefined where it does not
 */
export function answeredSessions(
  mapType: number,
  sessions: readonly CryptoSession[],
  keys: readonly KeyMaterial[],
  ssrcFor: (csId: number) => number | undefined,
): CryptoSession[] {
  const onlySpi = keys.length === 1 ? spiOf(keys[0] as KeyMaterial) : undefined;
  return sessions.map((session) => {
    if (mapType === CsMapType.EMPTY) return session;
    const filled = session.ssrc === 0 ? { ...session, ssrc: ssrcFor(session.csId) ?? 0 } : session;
    return mapType === CsMapType.GENERIC_ID && filled.spi === undefined && onlySpi !== undefined
      ? { ...filled, spi: onlySpi }
      : filled;
  });
}

/**
 * The sessions after a response: what the Initiator chose must come back unchanged, what it left open is read from the
 * Responder's map (RFC 3830 §6.1.1).
 * @param mayChoose whether the Responder may put a session under this policy instead (RFC 4738 §3.6); default: it may not
 * @throws MikeyError `mikey.response`
 */
export function completedSessions(
  mapType: number,
  sent: readonly CryptoSession[],
  answer: CsMap,
  mayChoose: (policyNo: number | undefined) => boolean = () => false,
): CryptoSession[] {
  const received = cryptoSessionsOf(answer);
  const differs = (): MikeyError => new MikeyError("mikey.response", "the response has another CS ID map than the request");
  if (answer.type !== mapType || received.length !== sent.length) throw differs();
  return sent.map((own, index) => {
    const theirs = received[index] as CryptoSession;
    if (theirs.csId !== own.csId || (theirs.policyNo !== own.policyNo && !mayChoose(theirs.policyNo))) throw differs();
    if (own.ssrc !== 0 && theirs.ssrc !== own.ssrc) throw differs();
    if (own.spi !== undefined && (theirs.spi === undefined || !equalBytes(own.spi, theirs.spi))) throw differs();
    return {
      ...own,
      policyNo: theirs.policyNo,
      ssrc: theirs.ssrc,
      roc: own.ssrc === 0 ? theirs.roc : own.roc,
      ...(theirs.spi === undefined ? {} : { spi: theirs.spi }),
    };
  });
}
