/** Judges a decoded message: what RFC 3830 forbids, what peers choke on, which dialect it speaks. */
import { CodecError, utf8Text } from "../bytes/index.js";
import {
  type AnyRegistry,
  CsMapType,
  createToleranceUse,
  DataType,
  type DecodedMessage,
  DhGroup,
  decodeKeyData,
  decodeSdpIds,
  EncrAlg,
  ExtensionType,
  entryOf,
  HashFunc,
  IdType,
  type KemacPayload,
  type KeyData,
  KeyDataType,
  MacAlg,
  MikeyError,
  nameOf,
  type Payload,
  type PayloadKind,
  type PolicyParam,
  ProtType,
  policyNumber,
  type SecurityPolicyPayload,
  SrtpEncrAlg,
  SrtpParam,
  srtpPolicyOf,
  TicketFlag,
  TimestampType,
  TOLERANCES,
  type ToleranceName,
  titleOf,
} from "../mikey/index.js";
import { authenticatesEverything, type SrtpPolicy } from "../srtp/index.js";
import type { Problem, Severity } from "./contracts.js";
import { fileTime, labelOfField, tableOf } from "./fields.js";
import type { OctetMap } from "./octet-map.js";

/** What stood around the message. */
export interface LintContext {
  /** Key management protocols of the same SDP level. */
  readonly protocols?: readonly string[];
}

type PayloadOf<K extends PayloadKind> = Extract<Payload, { kind: K }>;

/** The message with what every rule needs. */
class Subject {
  readonly message: DecodedMessage;
  readonly context: LintContext;
  readonly problems: Problem[] = [];

  constructor(message: DecodedMessage, context: LintContext) {
    this.message = message;
    this.context = context;
  }

  report(code: string, severity: Severity, path: string, message: string): void {
    this.problems.push({ code: `lint.${code}`, severity, path, message });
  }

  all<K extends PayloadKind>(kind: K): { readonly payload: PayloadOf<K>; readonly path: string }[] {
    return this.message.payloads.flatMap((payload, index) =>
      payload.kind === kind ? [{ payload: payload as PayloadOf<K>, path: this.message.spans[index]?.path ?? "mikey" }] : [],
    );
  }

  get fromInitiator(): boolean {
    return entryOf(DataType, this.message.header.dataType)?.from === "initiator";
  }
}

/**
 * Everything worth saying about a message that decodes, in the order of its octets as far as that goes.
 * @param map the octet map of the same message
 */
export function lintMessage(message: DecodedMessage, map: OctetMap, context: LintContext = {}): Problem[] {
  const subject = new Subject(message, context);
  for (const rule of RULES) rule(subject);
  lintNumbers(subject, map);
  return [...map.problems, ...subject.problems];
}

const RULES: readonly ((subject: Subject) => void)[] = [
  lintHeader,
  lintTimestamps,
  lintRand,
  lintIdentities,
  lintPolicies,
  lintKeys,
  lintWeakAlgorithms,
  lintTickets,
  lintSdpIds,
  lintOrder,
  lintPeers,
  lintTrailing,
];

function lintHeader(subject: Subject): void {
  const { header } = subject.message;
  const { csMap } = header;
  if (header.verificationRequested && entryOf(DataType, header.dataType)?.from === "responder") {
    subject.report(
      "v-in-answer",
      "info",
      "mikey.HDR.verificationRequested",
      "V has no meaning in an answer and is ignored; the example of RFC 4567 §5.1 has it too",
    );
  }
  if (csMap.entries === undefined) {
    if (csMap.type === CsMapType.EMPTY && subject.all("SP").length > 0) {
      subject.report(
        "policy-with-empty-map",
        "info",
        "mikey.HDR.csMap",
        "an empty map goes without SP (RFC 4563 §5); 3GPP MCX sends both",
      );
    }
    return;
  }
  if (csMap.entries.length === 0 && header.dataType === DataType.PSK_INIT) {
    subject.report("no-crypto-session", "warning", "mikey.HDR.csMap", "#CS is 0: the keys are for no crypto session");
  }
  if (csMap.type !== CsMapType.SRTP_ID) return;
  csMap.entries.forEach(({ ssrc, roc }, index) => {
    const path = `mikey.HDR.csMap[${index}]`;
    if (ssrc === 0) {
      subject.report(
        "ssrc-zero",
        "info",
        path,
        "SSRC 0: not chosen yet, the sender of the stream fills it in (RFC 3830 §6.1.1); over RTSP take it from Transport",
      );
    }
    if (roc !== 0) subject.report("roc", "info", path, `the stream is under way: its rollover counter is ${roc}`);
  });
}

function lintTimestamps(subject: Subject): void {
  const timestamps = subject.all("T");
  if (timestamps.length === 0)
    subject.report("t-absent", "error", "mikey", "there is no T: nothing tells a replay (RFC 3830 §5.4)");
  if (timestamps.length > 1) subject.report("t-repeated", "error", timestamps[1]?.path as string, "more than one T");
  for (const { payload, path } of timestamps) {
    const { tsType, value } = payload;
    if (tsType > TimestampType.NTP) continue;
    const windows = fileTime(value);
    if (windows !== undefined) {
      subject.report(
        "t-filetime",
        "warning",
        `${path}.value`,
        `a Windows FILETIME (${windows.toISOString()}) where NTP belongs, as ONVIF's examples and Genetec have it; receivers with a clock check refuse it`,
      );
    } else if (value.subarray(0, 4).every((octet) => octet === 0)) {
      subject.report("t-zero", "warning", `${path}.value`, "the timestamp has 0 seconds: the sender's clock was never set");
    }
  }
}

/** RFC 3830 §6.11: RAND must be in the first message of a CSB and should have 16 octets. */
function lintRand(subject: Subject): void {
  const rands = subject.all("RAND");
  const { dataType } = subject.message.header;
  const wanted =
    dataType === DataType.PSK_INIT || dataType === DataType.PK_INIT || dataType === DataType.DH_INIT || dataType === DataType.SAKKE;
  if (rands.length === 0 && wanted) {
    subject.report(
      "rand-absent",
      "warning",
      "mikey",
      "there is no RAND: legal only in an update of a CSB that has one (RFC 3830 §4.5); Genetec leaves it out of first messages",
    );
  }
  for (const { payload, path } of rands) {
    if (payload.rand.length < 16) {
      subject.report(
        "rand-short",
        "warning",
        path,
        `RAND has ${payload.rand.length} octets, it should have 16 (RFC 3830 §6.11); gortsplib refuses it`,
      );
    }
  }
  if (rands.length > 1) subject.report("rand-repeated", "error", rands[1]?.path as string, "more than one RAND");
}

function lintIdentities(subject: Subject): void {
  for (const { payload, path } of [...subject.all("ID"), ...subject.all("IDR")]) {
    const textual = payload.idType === IdType.NAI || payload.idType === IdType.URI;
    if (textual && utf8Text(payload.data) === undefined) {
      subject.report(
        "id-not-text",
        "info",
        `${path}.data`,
        `type ${nameOf(IdType, payload.idType)} but raw octets, as 3GPP MCX puts hashed identities`,
      );
    }
    if (payload.data.length === 0) subject.report("id-empty", "warning", `${path}.data`, "an empty identity");
  }
}

const EVERY_TOLERANCE = Object.keys(TOLERANCES) as ToleranceName[];

/** The SRTP policy that an SP payload asks for, every known dialect allowed. @throws MikeyError */
export function policyOf(payload: SecurityPolicyPayload): SrtpPolicy {
  return srtpPolicyOf(payload.params, createToleranceUse(EVERY_TOLERANCE));
}

function lintPolicies(subject: Subject): void {
  const policies = subject.all("SP");
  const { csMap, dataType } = subject.message.header;
  const numbers = new Set(policies.map(({ payload }) => payload.policyNo));
  if (policies.length === 0 && dataType === DataType.PSK_INIT) {
    subject.report(
      "sp-absent",
      "warning",
      "mikey",
      "there is no SP: GStreamer takes the SRTP defaults, live555 switches encryption off, others refuse; legal only in an update",
    );
  }
  if (numbers.size < policies.length) subject.report("sp-repeated", "error", "mikey.SP", "two SP have the same policy number");
  // An answer may refer to policies of the initial message (RFC 6043 §6.1.1).
  if (csMap.entries !== undefined && policies.length > 0 && subject.fromInitiator) {
    const wanted = csMap.entries.flatMap((entry) => ("policyNo" in entry ? [entry.policyNo] : entry.policyNos));
    for (const number of new Set(wanted)) {
      if (!numbers.has(number))
        subject.report("policy-unknown", "error", "mikey.HDR.csMap", `no SP has the policy number ${number}`);
    }
  }
  for (const { payload, path } of policies) {
    lintParams(subject, payload.params, path);
    if (payload.protType === ProtType.SRTP) lintSrtpPolicy(subject, payload, path);
  }
}

function lintParams(subject: Subject, params: readonly PolicyParam[], path: string): void {
  const seen = new Set<number>();
  params.forEach(({ type, value }, index) => {
    const at = `${path}.params[${index}]`;
    if (seen.has(type)) subject.report("param-repeated", "error", at, `parameter ${type} is there twice`);
    seen.add(type);
    if (value.length === 0) subject.report("param-empty", "warning", at, `parameter ${type} has no value`);
  });
}

function lintSrtpPolicy(subject: Subject, payload: SecurityPolicyPayload, path: string): void {
  const number = (type: number): number | undefined => {
    const param = payload.params.find((candidate) => candidate.type === type);
    return param === undefined ? undefined : policyNumber(param.value);
  };
  if (payload.params.length === 0) {
    subject.report("sp-empty", "info", path, "no parameters: every SRTP default, AES_CM_128_HMAC_SHA1_80 (RFC 3830 §6.10.1)");
  }
  const authKey = number(SrtpParam.SESSION_AUTH_KEY_LENGTH);
  const aead = number(SrtpParam.ENCR_ALG) === SrtpEncrAlg.AES_GCM;
  if (!aead && authKey !== undefined && authKey !== 20) {
    const tag = number(SrtpParam.AUTH_TAG_LENGTH);
    const at = `${path}.params[${payload.params.findIndex(({ type }) => type === SrtpParam.SESSION_AUTH_KEY_LENGTH)}]`;
    if (tag === undefined && (authKey === 10 || authKey === 4)) {
      subject.report(
        "tag-length-in-type-3",
        "warning",
        at,
        `GStreamer's dialect, also Axis and older gortsplib: parameter 3 (session authentication key length) carries the tag length, ${authKey} octets`,
      );
    } else {
      subject.report("auth-key-length", "warning", at, `an HMAC-SHA-1 session key has 20 octets, not ${authKey}`);
    }
  }
  if (number(SrtpParam.ENCR_ALG) === SrtpEncrAlg.NULL || number(SrtpParam.SRTP_ENCRYPTION) === 0) {
    subject.report("srtp-unencrypted", "warning", path, "the media are not encrypted");
  }
  if (number(SrtpParam.SRTP_AUTHENTICATION) === 0)
    subject.report("srtp-unauthenticated", "warning", path, "SRTP packets are not authenticated");
  try {
    if (number(SrtpParam.SRTP_AUTHENTICATION) !== 0 && !authenticatesEverything(policyOf(payload)))
      subject.report("srtp-unauthenticated", "warning", path, "not every SRTP packet is authenticated");
  } catch (error) {
    if (!(error instanceof MikeyError)) throw error;
    subject.report("policy-unsupported", "warning", path, `no SRTP policy that we know: ${error.message}`);
  }
}

function lintKeys(subject: Subject): void {
  const kemacs = subject.all("KEMAC");
  const authenticated = subject.all("SIGN").length + subject.all("V").length + subject.all("SIGNX").length > 0;
  for (const { payload, path } of kemacs) {
    if (payload.macAlg === MacAlg.NULL && !authenticated) {
      const nothing = payload.encrAlg === EncrAlg.NULL;
      if (nothing) {
        subject.report(
          "null-keying",
          "warning",
          path,
          "the keys are in the clear and nothing is authenticated: whoever reads this message has the media; only inside TLS",
        );
      } else {
        subject.report("null-mac", "error", path, "keys are encrypted but nothing authenticates the message");
      }
    } else if (payload.encrAlg === EncrAlg.NULL && payload.encrData.length > 0) {
      subject.report("null-encryption", "warning", path, "the keys are in the clear");
    }
    lintKemacContent(subject, payload, path);
  }
}

function lintKemacContent(subject: Subject, kemac: KemacPayload, path: string): void {
  if (kemac.encrData.length === 0) {
    const { dataType } = subject.message.header;
    // RFC 4650 §4.2: DHHMAC uses KEMAC for its MAC alone.
    if (dataType === DataType.DHHMAC_INIT || dataType === DataType.DHHMAC_RESP) return;
    subject.report(
      "kemac-empty",
      kemac.encrAlg === EncrAlg.NULL && kemac.macAlg === MacAlg.NULL ? "error" : "warning",
      path,
      "there is no key: of use only in an update under MAC (RFC 3830 §4.5); gst-rtsp-server crashes on it",
    );
    return;
  }
  if (kemac.encrAlg !== EncrAlg.NULL) return;
  let keys: readonly KeyData[];
  try {
    keys = decodeKeyData(kemac.encrData);
  } catch (error) {
    // The octet map has reported it.
    if (error instanceof CodecError) return;
    throw error;
  }
  const spis = new Set<string>();
  for (const [index, key] of keys.entries()) lintKey(subject, key, `${path}.encrData[${index}]`, spis);
}

/** Master key and salt in one field, by suite: AES-CM 128, 192, 256 with 14, GCM 128, 256 with 12 octets of salt. */
const CONCATENATED: ReadonlySet<number> = new Set([16 + 14, 24 + 14, 32 + 14, 16 + 12, 32 + 12]);

function lintKey(subject: Subject, key: KeyData, path: string, spis: Set<string>): void {
  const { type, validity } = key;
  if (type === KeyDataType.TEK && CONCATENATED.has(key.key.length)) {
    subject.report(
      "tek-with-salt",
      "info",
      `${path}.key`,
      `a TEK of ${key.key.length} octets is master key and master salt in one, as GStreamer and ONVIF write it; RFC 3830 has TEK+SALT for this`,
    );
  } else if (type === KeyDataType.TEK) {
    subject.report(
      "tek-without-salt",
      "warning",
      `${path}.key`,
      `a TEK of ${key.key.length} octets: RFC 3830 defines no salt for it`,
    );
  }
  if (type === KeyDataType.TEK_SALT) {
    subject.report(
      "tek-salt-field",
      "info",
      path,
      "TEK+SALT: GStreamer up to 1.22 loses the salt, gortsplib and live555 refuse it",
    );
  }
  if (type === KeyDataType.TGK || type === KeyDataType.TGK_SALT) {
    subject.report("tgk-in-clear", "warning", path, "a TGK under NULL encryption: GStreamer takes it for the master key itself");
  }
  if (validity.kv === "null") {
    subject.report(
      "mki-absent",
      "info",
      path,
      "no SPI, hence no MKI in packets: ONVIF and Axis require one, a rekey cannot be told from its packets",
    );
    return;
  }
  if (validity.kv === "interval") {
    for (const [name, value] of [
      ["validFrom", validity.from],
      ["validTo", validity.to],
    ] as const) {
      if (value.length !== 6)
        subject.report("interval-length", "error", `${path}.${name}`, `an SRTP index has 6 octets, not ${value.length}`);
    }
    return;
  }
  const { spi } = validity;
  if (spi.length === 0) {
    subject.report("spi-empty", "warning", `${path}.spi`, "an empty SPI: peers read it as no SPI; live555 refuses it");
  } else if (spi.length !== 4) {
    subject.report("spi-length", "info", `${path}.spi`, `an MKI of ${spi.length} octets: live555 takes only 4`);
  }
  const text = spi.join();
  if (spis.has(text)) subject.report("spi-repeated", "error", `${path}.spi`, "two keys have the same SPI");
  spis.add(text);
}

function lintWeakAlgorithms(subject: Subject): void {
  for (const { payload, path } of subject.all("DH")) {
    if (payload.group === DhGroup.OAKLEY_1 || payload.group === DhGroup.OAKLEY_2) {
      subject.report("weak-group", "warning", path, `${titleOf(DhGroup, payload.group)} is too short for today`);
    }
  }
  for (const { payload, path } of subject.all("CHASH")) {
    if (payload.hashFunc === HashFunc.MD5) subject.report("weak-hash", "warning", path, "MD5 names no certificate reliably");
  }
}

/** If the first flags are as said, the second must be set (RFC 6043 §6.10). */
const FLAG_RULES: readonly (readonly [flag: keyof typeof TicketFlag, set: boolean, implied: keyof typeof TicketFlag])[] = [
  ["D", false, "L"],
  ["G", true, "F"],
  ["G", false, "H"],
  ["H", false, "G"],
  ["I", true, "E"],
  ["K", true, "D"],
  ["M", true, "F"],
];

function lintTickets(subject: Subject): void {
  for (const { payload, path } of [...subject.all("TP"), ...subject.all("TICKET")]) {
    const has = (flag: keyof typeof TicketFlag): boolean => (payload.flags & TicketFlag[flag].value) !== 0;
    for (const [flag, set, implied] of FLAG_RULES) {
      if (has(flag) === set && !has(implied)) {
        subject.report("ticket-flags", "error", `${path}.flags`, `${set ? "" : "not "}${flag} implies ${implied} (RFC 6043 §6.10)`);
      }
    }
  }
}

/** RFC 4567 §4.1.4: the list of offered protocols is authenticated inside the message, against bidding down. */
function lintSdpIds(subject: Subject): void {
  const { protocols } = subject.context;
  for (const { payload, path } of subject.all("EXT")) {
    if (payload.extType !== ExtensionType.SDP_IDS) continue;
    let ids: string;
    try {
      ids = decodeSdpIds(payload.data).join(";");
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      subject.report("sdp-ids", "error", path, "the SDP IDs are not a list of protocol identifiers (RFC 4567 §4.1.4)");
      continue;
    }
    if (protocols !== undefined && ids !== protocols.join(";")) {
      subject.report(
        "sdp-ids-differ",
        "error",
        path,
        `the message says ${ids}, the SDP ${protocols.join(";")}: somebody changed the offer`,
      );
    }
  }
  const present = subject.all("EXT").some(({ payload }) => payload.extType === ExtensionType.SDP_IDS);
  if (protocols !== undefined && subject.fromInitiator && !present) {
    subject.report(
      "sdp-ids-absent",
      protocols.length > 1 ? "warning" : "info",
      "mikey",
      "no SDP IDs extension: nothing protects the list of protocols against bidding down (RFC 4567 §4.1.4)",
    );
  }
}

/** RFC 3830 §5.2: the payload that authenticates is the last; what follows it is not covered. */
function lintOrder(subject: Subject): void {
  const { payloads, spans, header } = subject.message;
  payloads.forEach((payload, index) => {
    const mac =
      payload.kind === "V" || payload.kind === "SIGNX" || (payload.kind === "KEMAC" && header.dataType === DataType.PSK_INIT);
    if (mac && index < payloads.length - 1 && !(payload.kind === "V" && payloads[index + 1]?.kind === "SIGNX")) {
      subject.report(
        "not-last",
        "error",
        spans[index]?.path ?? "mikey",
        `${payload.kind} must be the last payload: what follows is not authenticated`,
      );
    }
  });
  if (header.dataType === DataType.PSK_INIT && subject.all("KEMAC").length === 0) {
    subject.report("kemac-absent", "error", "mikey", "a pre-shared key message needs a KEMAC (RFC 3830 §3.1)");
  }
  if (header.dataType === DataType.PSK_RESP && subject.all("V").length === 0) {
    subject.report("v-absent", "error", "mikey", "a verification message needs a V (RFC 3830 §3.1)");
  }
}

const HANG_GSTREAMER: ReadonlySet<PayloadKind> = new Set(["ID", "EXT", "V", "DH", "SIGN", "CERT", "ERR"]);

function lintPeers(subject: Subject): void {
  const { payloads, spans, header } = subject.message;
  const kemac = subject.all("KEMAC")[0]?.payload;
  const nullKeyed = kemac !== undefined && kemac.encrAlg === EncrAlg.NULL && kemac.macAlg === MacAlg.NULL;
  if (header.dataType !== DataType.PSK_INIT) return;
  const index = payloads.findIndex(({ kind }) => HANG_GSTREAMER.has(kind));
  if (index >= 0) {
    subject.report(
      "hangs-gstreamer",
      "info",
      spans[index]?.path ?? "mikey",
      `GStreamer before 1.24.13 and 1.26.2 reads ${payloads[index]?.kind} without end; never send it to one`,
    );
  }
  if (nullKeyed && header.verificationRequested) {
    subject.report(
      "v-without-key",
      "info",
      "mikey.HDR.verificationRequested",
      "V = 1, but without a key there is no verification; gortsplib and live555 refuse it",
    );
  }
}

function lintTrailing(subject: Subject): void {
  const { trailing, octets } = subject.message;
  if (trailing === undefined) return;
  if (trailing.length === 1 && trailing[0] === 0) {
    subject.report("trailing-zero", "warning", "mikey", "one zero octet follows the last payload, as Milestone sends it");
  } else {
    subject.report(
      "trailing",
      "error",
      "mikey",
      `${trailing.length} octets follow the last payload, from ${octets.length - trailing.length} on`,
    );
  }
}

/** Numbers without a meaning, wherever they stand. */
function lintNumbers(subject: Subject, map: OctetMap): void {
  for (const { path, value } of map.fields) {
    if (typeof value !== "number") continue;
    const name = path.slice(path.lastIndexOf(".") + 1);
    if (name === "reserved" && value !== 0) {
      subject.report("reserved-bits", "info", path, "reserved bits are set");
      continue;
    }
    const table = tableOf(path) ?? paramTable(path, map);
    if (table === undefined || entryOf(table, value) !== undefined) continue;
    const isPrivate = nameOf(table, value) === "private";
    subject.report(
      isPrivate ? "private-use" : "unassigned",
      isPrivate ? "info" : "warning",
      path,
      `${labelOfField(path)} ${value} is ${isPrivate ? "for private use: only its inventor knows it" : "not assigned"}`,
    );
  }
}

/** The table of an SP parameter's type: it hangs on the Prot type. */
function paramTable(path: string, map: OctetMap): AnyRegistry | undefined {
  const match = /^(.*)\.params\[\d+\]\.type$/.exec(path);
  if (match === null) return undefined;
  return entryOf(ProtType, map.values.get(`${match[1]}.protType`) as number)?.params;
}
