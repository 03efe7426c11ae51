import { WatchwordError } from "../bytes/index.js";
import {
  defaultCarryingTag,
  type RolloverCarrying,
  resolveCarrying,
  type SrtpPolicy,
  type Suite,
  type SuiteName,
  suiteNames,
  suiteOf,
} from "../srtp/index.js";
import { MikeyError } from "./errors.js";
import type { PolicyParam } from "./message.js";
import { policyNumber, policyValue } from "./payloads-content.js";
import { entriesOf, entryOf, FecOrder, OnOff, SrtpAuthAlg, SrtpEncrAlg, SrtpParam, SrtpPrf } from "./registry.js";
import type { ToleranceUse } from "./tolerances.js";

/**
 * How an SRTP policy is written into an SP payload (RFC 3830 §6.10.1): which parameters are named.
 * `base`: the common ground of every receiver met so far. `gstreamer`: parameter 3 carries the tag length, 4, 5, 11 and 20
 * are not known. `onvif`: as the ONVIF Streaming Specification lists them. `nx`: as `base`, and AEAD in the shape of HMAC, with
 * parameters 3 and 10.
 */
export type SpDialect = "base" | "gstreamer" | "onvif" | "nx";

/** Octets of a session authentication key for HMAC-SHA-1 (RFC 3711 §5.2). */
const AUTH_KEY = 20;
/** Octets of an AEAD tag (RFC 7714 §14.3). */
const AEAD_TAG = 16;
/** Octets of the SRTCP tag, whatever the SRTP tag (RFC 3711 §5.2). */
const SRTCP_TAG = 10;
const SHORT_TAG = 4;
/** Octets of a tag that is a rollover counter alone (RFC 4771 §5). */
const ROLLOVER_TAG = 4;

const P = SrtpParam;

/** The suites in terms of parameters 0, 1 and the tag length (RFC 3830 §6.10.1, RFC 7714 §15; AES-192/256-CM by parameter 1). */
interface SuiteCode {
  readonly suite: SuiteName;
  readonly encrAlg: number;
  readonly keyLength: number;
  readonly tagLength: number;
  readonly saltLength: number;
}

const SUITE_CODES: readonly SuiteCode[] = suiteNames.map((suite) => {
  const facts = suiteOf(suite);
  const encrAlg = { cm: SrtpEncrAlg.AES_CM, gcm: SrtpEncrAlg.AES_GCM, null: SrtpEncrAlg.NULL }[facts.cipher];
  return { suite, encrAlg, keyLength: facts.keyLength, tagLength: facts.rtpTagLength, saltLength: facts.saltLength };
});

/** The algorithms of rollover carrying, by its mode (RFC 4771 §4). */
const CARRYING_ALGS: Readonly<Record<RolloverCarrying["mode"], number>> = {
  1: SrtpAuthAlg.RCCM1,
  2: SrtpAuthAlg.RCCM2,
  3: SrtpAuthAlg.RCCM3,
};

/** Parameters by their numbers. */
type Values = readonly (number | undefined)[];
type ValuesDraft = (number | undefined)[];

/** As many as there are numbers. */
const NO_VALUES: Values = new Array(1 + Math.max(...entriesOf(SrtpParam).map(({ value }) => value))).fill(undefined);

/**
 * An SRTP policy as SP parameters, ascending. Encrypted header extensions are not among them: SDP names these (RFC 6904 §4).
 * @throws MikeyError `mikey.option` for a policy that MIKEY or the dialect cannot express
 */
export function srtpPolicyParams(policy: SrtpPolicy, dialect: SpDialect = "base"): PolicyParam[] {
  const values = valuesOf(policy, dialect);
  const params: PolicyParam[] = [];
  for (let type = 0; type < values.length; type++) {
    const value = values[type];
    if (value !== undefined) params.push({ type, value: policyValue(value) });
  }
  return params;
}

/** Whether SP says the same of both: one may state defaults that the other leaves out. @throws MikeyError `mikey.option` as `srtpPolicyParams` */
export function samePolicy(a: SrtpPolicy, b: SrtpPolicy): boolean {
  const other = valuesOf(b, "base");
  return valuesOf(a, "base").every((value, type) => value === other[type]);
}

function valuesOf(policy: SrtpPolicy, dialect: SpDialect): Values {
  const code = SUITE_CODES.find((candidate) => candidate.suite === policy.suite);
  if (code === undefined) throw new MikeyError("mikey.option", `MIKEY has no code points for ${policy.suite}`);
  const aead = code.encrAlg === SrtpEncrAlg.AES_GCM;
  if (aead && (policy.encryptRtp === false || policy.authenticateRtp === false)) {
    throw new MikeyError("mikey.option", `${policy.suite} always encrypts and authenticates (RFC 7714 §8.2)`);
  }
  const values = NO_VALUES.slice();
  values[P.ENCR_ALG] = code.encrAlg;
  values[P.SESSION_ENCR_KEY_LENGTH] = code.keyLength;
  values[P.AUTH_ALG] = aead ? SrtpAuthAlg.NULL : SrtpAuthAlg.HMAC_SHA_1;
  values[P.SRTP_ENCRYPTION] = onOff(policy.encryptRtp);
  values[P.SRTCP_ENCRYPTION] = onOff(policy.encryptRtcp);
  if (policy.keyDerivationRate !== undefined && policy.keyDerivationRate !== 0) {
    if (dialect === "gstreamer") throw new MikeyError("mikey.option", "this dialect has no key derivation rate");
    values[P.KEY_DERIVATION_RATE] = policy.keyDerivationRate;
  }
  if (policy.rolloverCarrying !== undefined) setCarrying(values, policy, policy.rolloverCarrying, dialect);
  if (dialect === "gstreamer") {
    values[P.SESSION_AUTH_KEY_LENGTH] = aead ? 0 : code.tagLength;
    values[P.SRTP_AUTHENTICATION] = onOff(policy.authenticateRtp);
  } else if (aead && dialect === "nx") {
    values[P.SESSION_AUTH_KEY_LENGTH] = 0;
    values[P.SRTP_AUTHENTICATION] = OnOff.ON;
    values[P.AEAD_TAG_LENGTH] = AEAD_TAG;
  } else if (aead) {
    values[P.SESSION_SALT_LENGTH] = code.saltLength;
    values[P.PRF] = SrtpPrf.AES_CM;
    values[P.AEAD_TAG_LENGTH] = AEAD_TAG;
  } else {
    values[P.SESSION_AUTH_KEY_LENGTH] = AUTH_KEY;
    // Where parameter 18 says the tag of SRTP, 11 is that of SRTCP.
    values[P.AUTH_TAG_LENGTH] = policy.rolloverCarrying === undefined ? code.tagLength : SRTCP_TAG;
    if (dialect === "onvif") {
      values[P.SESSION_SALT_LENGTH] = code.saltLength;
      values[P.PRF] = SrtpPrf.AES_CM;
    }
    // The ONVIF list has no parameter 10: on is the default.
    if (dialect !== "onvif" || policy.authenticateRtp === false) values[P.SRTP_AUTHENTICATION] = onOff(policy.authenticateRtp);
    if (policy.rtcpTagLength !== undefined && policy.rtcpTagLength !== SRTCP_TAG) values[P.SRTCP_TAG_LENGTH] = policy.rtcpTagLength;
  }
  return values;
}

function onOff(on: boolean | undefined): number {
  return on === false ? OnOff.OFF : OnOff.ON;
}

/** Rollover carrying is for SRTP alone, so the parameters for SRTP alone say it (RFC 4771 §4). */
function setCarrying(values: ValuesDraft, policy: SrtpPolicy, carrying: RolloverCarrying, dialect: SpDialect): void {
  if (dialect !== "base") throw new MikeyError("mikey.option", "this dialect has no rollover counter carrying");
  const suite = suiteOf(policy.suite);
  try {
    resolveCarrying(suite, policy.authenticateRtp !== false, carrying);
  } catch (error) {
    if (error instanceof WatchwordError) throw new MikeyError("mikey.option", error.message, { cause: error });
    throw error;
  }
  const { mode, rate = 1, tagLength = defaultCarryingTag(suite, mode) } = carrying;
  values[P.ROC_RATE] = rate;
  values[P.SRTP_AUTH_ALG] = CARRYING_ALGS[mode];
  values[P.SRTP_TAG_LENGTH] = tagLength;
}

/**
 * SP parameters as an SRTP policy. An absent parameter has SRTP's default (RFC 3830 §6.10.1), so no parameters at all mean
 * AES_CM_128_HMAC_SHA1_80. Nothing unknown, repeated or contradictory is passed over: that would be another policy than
 * the sender's.
 * @throws MikeyError `mikey.policy-parameter`
 */
export function srtpPolicyOf(params: readonly PolicyParam[], use: ToleranceUse): SrtpPolicy {
  const values = readValues(params);
  const encrAlg = values[P.ENCR_ALG] ?? SrtpEncrAlg.AES_CM;
  const aead = encrAlg === SrtpEncrAlg.AES_GCM;
  expect(values, P.PRF, SrtpPrf.AES_CM);
  expect(values, P.FEC_ORDER, FecOrder.FEC_SRTP);
  expect(values, P.PREFIX_LENGTH, 0);
  const carrying = carryingMode(values);
  if (carrying === undefined) refuse(values, P.ROC_RATE);
  const tags = aead ? aeadTags(values, carrying) : hmacTags(values, carrying, use);
  const keyLength = values[P.SESSION_ENCR_KEY_LENGTH] ?? 16;
  const code = SUITE_CODES.find((row) => row.encrAlg === encrAlg && row.keyLength === keyLength && row.tagLength === tags.rtp);
  if (code === undefined) {
    throw unsupported(`no suite has encryption algorithm ${encrAlg}, ${keyLength}-octet keys and ${tags.rtp}-octet tags`);
  }
  expect(values, P.SESSION_SALT_LENGTH, code.saltLength);
  const encryptRtp = switchedOn(values, P.SRTP_ENCRYPTION);
  const authenticateRtp = switchedOn(values, P.SRTP_AUTHENTICATION);
  if (aead && !(encryptRtp && authenticateRtp))
    throw unsupported(`${code.suite} always encrypts and authenticates (RFC 7714 §8.2)`);
  if (carrying !== undefined && !authenticateRtp)
    throw unsupported("rollover carrying without authentication is RCCm3 (RFC 4771 §3)");
  const keyDerivationRate = derivationRate(values);
  const policy: SrtpPolicyDraft = { suite: code.suite };
  if (!encryptRtp) policy.encryptRtp = false;
  if (!switchedOn(values, P.SRTCP_ENCRYPTION)) policy.encryptRtcp = false;
  if (!authenticateRtp) policy.authenticateRtp = false;
  if (keyDerivationRate !== 0) policy.keyDerivationRate = keyDerivationRate;
  if (tags.rtcp !== SRTCP_TAG && !aead) policy.rtcpTagLength = tags.rtcp;
  if (carrying !== undefined) policy.rolloverCarrying = carryingOf(values, carrying, suiteOf(code.suite), tags.carrying);
  return policy;
}

type SrtpPolicyDraft = { -readonly [K in keyof SrtpPolicy]: SrtpPolicy[K] };

function readValues(params: readonly PolicyParam[]): Values {
  const values = NO_VALUES.slice();
  for (const { type, value } of params) {
    if (entryOf(SrtpParam, type) === undefined) throw unsupported(`parameter ${type} is unknown`);
    if (values[type] !== undefined) throw unsupported(`parameter ${type} is there twice`);
    const number = policyNumber(value);
    if (number === undefined) throw unsupported(`parameter ${type} has ${value.length} octets`);
    values[type] = number;
  }
  return values;
}

type CarryingMode = RolloverCarrying["mode"];

/** Octets of the suite's tags, and of the tag that carries a rollover counter. */
interface Tags {
  readonly rtp: number;
  readonly rtcp: number;
  readonly carrying?: number;
}

/** Parameter 14, or else 2, says whether and how SRTP carries its rollover counter (RFC 4771 §4). */
function carryingMode(values: Values): CarryingMode | undefined {
  const algorithm = values[P.SRTP_AUTH_ALG] ?? values[P.AUTH_ALG];
  return ([1, 2, 3] as const).find((mode) => CARRYING_ALGS[mode] === algorithm);
}

function carryingOf(values: Values, mode: CarryingMode, suite: Suite, tagLength: number | undefined): RolloverCarrying {
  const rate = values[P.ROC_RATE] ?? 1;
  if (rate < 1 || rate > 0xffff) throw unsupported(`a ROC transmission rate is a number from 1 to 65535, not ${rate}`);
  return {
    mode,
    ...(rate === 1 ? {} : { rate }),
    ...(tagLength === undefined || tagLength === defaultCarryingTag(suite, mode) ? {} : { tagLength }),
  };
}

/**
 * RFC 7714 §14.3, §15: algorithm, key length and AEAD tag length say everything; there is no separate authentication, save that a
 * rollover counter may follow (RCCm3). TS 33.180 then has that algorithm in parameter 2 and an SRTCP tag of no octets.
 */
function aeadTags(values: Values, carrying: CarryingMode | undefined): Tags {
  if (carrying === 1 || carrying === 2) throw unsupported("an AEAD has no other authentication: only RCCm3 goes with it");
  const algorithms = carrying === undefined ? [SrtpAuthAlg.NULL] : [SrtpAuthAlg.NULL, SrtpAuthAlg.RCCM3];
  for (const type of [P.AUTH_ALG, P.SRTP_AUTH_ALG]) expect(values, type, ...algorithms);
  expect(values, P.SRTCP_AUTH_ALG, SrtpAuthAlg.NULL);
  for (const type of [P.SESSION_AUTH_KEY_LENGTH, P.SRTP_AUTH_KEY_LENGTH, P.SRTCP_AUTH_KEY_LENGTH]) expect(values, type, 0);
  expect(values, P.AEAD_TAG_LENGTH, AEAD_TAG);
  const tags = carrying === undefined ? [AEAD_TAG] : [ROLLOVER_TAG, AEAD_TAG];
  expect(values, P.AUTH_TAG_LENGTH, ...tags);
  expect(values, P.SRTP_TAG_LENGTH, tags[0] as number);
  expect(values, P.SRTCP_TAG_LENGTH, AEAD_TAG, ...(carrying === undefined ? [] : [0]));
  return { rtp: AEAD_TAG, rtcp: AEAD_TAG };
}

/** HMAC-SHA-1; parameters 14 to 19 override 2, 3 and 11 for SRTP or SRTCP (RFC 4771 §4). */
function hmacTags(values: Values, carrying: CarryingMode | undefined, use: ToleranceUse): Tags {
  refuse(values, P.AEAD_TAG_LENGTH);
  const general = values[P.AUTH_ALG] ?? SrtpAuthAlg.HMAC_SHA_1;
  if (carrying === undefined && (values[P.SRTP_AUTH_ALG] ?? general) !== SrtpAuthAlg.HMAC_SHA_1) {
    throw unsupported(`SRTP has authentication algorithm ${values[P.SRTP_AUTH_ALG] ?? general}, neither HMAC-SHA-1 nor RCC`);
  }
  if ((values[P.SRTCP_AUTH_ALG] ?? general) !== SrtpAuthAlg.HMAC_SHA_1) {
    throw unsupported("SRTCP is authenticated with HMAC-SHA-1 and nothing else (RFC 3711 §3.4, RFC 4771 §2)");
  }
  expect(values, P.SRTP_AUTH_KEY_LENGTH, AUTH_KEY, ...(carrying === 3 ? [0] : []));
  expect(values, P.SRTCP_AUTH_KEY_LENGTH, AUTH_KEY);
  let tag = values[P.AUTH_TAG_LENGTH];
  const authKey = values[P.SESSION_AUTH_KEY_LENGTH] ?? AUTH_KEY;
  if (authKey !== AUTH_KEY) {
    const misplaced = (authKey === SHORT_TAG || authKey === SRTCP_TAG) && tag === undefined && carrying === undefined;
    if (!misplaced || !use.take("tag-length-in-auth-key-length")) {
      throw unsupported(`the session authentication key of HMAC-SHA-1 has ${AUTH_KEY} octets, not ${authKey}`);
    }
    tag = authKey;
  }
  const stated = values[P.SRTP_TAG_LENGTH] ?? tag;
  if (carrying !== undefined) {
    const ofCarriers = stated ?? (carrying === 3 ? ROLLOVER_TAG : 10);
    checkCarryingTag(ofCarriers, carrying);
    return {
      rtp: carrying !== 3 && ofCarriers === SHORT_TAG + ROLLOVER_TAG ? SHORT_TAG : 10,
      rtcp: rtcpTag(values, false, use),
      carrying: ofCarriers,
    };
  }
  const rtp = stated ?? 10;
  return { rtp, rtcp: rtcpTag(values, rtp === SHORT_TAG, use) };
}

/** @param isImplied whether a short SRTP tag without a word on SRTCP means a short SRTCP tag to the peer */
function rtcpTag(values: Values, isImplied: boolean, use: ToleranceUse): number {
  const stated = values[P.SRTCP_TAG_LENGTH];
  const wantsShort = stated === SHORT_TAG || (stated === undefined && isImplied);
  if (wantsShort && use.take("short-srtcp-tag")) return SHORT_TAG;
  if (stated !== undefined && stated !== SRTCP_TAG)
    throw unsupported(`an SRTCP tag has ${SRTCP_TAG} octets, not ${stated} (RFC 3711 §5.2)`);
  return SRTCP_TAG;
}

/** RFC 4771 §5: four octets in mode 3; else the counter and a MAC worth its name. */
function checkCarryingTag(length: number, mode: CarryingMode): void {
  const possible = mode === 3 ? length === ROLLOVER_TAG : length >= 2 * ROLLOVER_TAG && length <= 20;
  if (!possible) throw unsupported(`RCCm${mode} has no tag of ${length} octets (RFC 4771 §5)`);
}

/** RFC 3830 leaves open whether the number is the rate or its exponent; it is read as the rate, as RFC 3711 §4.3.1 counts it. */
function derivationRate(values: Values): number {
  const rate = values[P.KEY_DERIVATION_RATE] ?? 0;
  if (rate > 2 ** 24 || (rate & (rate - 1)) !== 0)
    throw unsupported(`a key derivation rate is 0 or a power of two up to 2^24, not ${rate}`);
  return rate;
}

function switchedOn(values: Values, type: number): boolean {
  const value = values[type] ?? OnOff.ON;
  if (value !== OnOff.ON && value !== OnOff.OFF) throw unsupported(`parameter ${type} is ${value}, neither on nor off`);
  return value === OnOff.ON;
}

function expect(values: Values, type: number, ...wanted: readonly number[]): void {
  const value = values[type];
  if (value !== undefined && !wanted.includes(value)) {
    throw unsupported(`parameter ${type} is ${value}, supported is ${wanted.join(" or ")}`);
  }
}

function refuse(values: Values, type: number): void {
  if (values[type] !== undefined) throw unsupported(`parameter ${type} does not belong to the algorithms`);
}

function unsupported(detail: string): MikeyError {
  return new MikeyError("mikey.policy-parameter", `security policy: ${detail}`);
}
