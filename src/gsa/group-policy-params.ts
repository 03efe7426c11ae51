/** Group policies as SP payloads (docs/protocol.md §14). */
import { concatBytes, formatHex, utf8, utf8Text, WatchwordError, Writer } from "../bytes/index.js";
import type { GkmaName } from "../gkma/index.js";
import {
  type AnyRegistry,
  createToleranceUse,
  DataArrangement,
  DataParam,
  EncrAlg,
  entryOf,
  GkmaAlgorithm,
  GroupParam,
  MacAlg,
  nameOf,
  type PolicyParam,
  ProtType,
  RekeyParam,
  type SecurityPolicyPayload,
  SignxAlg,
  srtpPolicyOf,
  srtpPolicyParams,
} from "../mikey/index.js";
import type { SrtpPolicy } from "../srtp/index.js";
import {
  type DataSaPolicy,
  type DeregistrationPolicy,
  GROUP_LIMITS,
  type GroupPolicies,
  type GroupPolicy,
  kekEncryptionOf,
  type MembershipTerms,
  macAlgOf,
  type RekeyPolicy,
  type RekeySignature,
  type ResynchronisationMethod,
  retransmissionSpanMs,
  roleBits,
  roleOf,
} from "./group-policy.js";

/** Policy numbers (docs/protocol.md §14). */
const NUMBER = { lastData: GROUP_LIMITS.dataSas, firstSrtp: 201, lastSrtp: 250, rekey: 253, group: 254 } as const;

/** Parameters above are optional to understand. */
const LAST_MANDATORY = 127;

const ALGORITHM_NUMBER: Readonly<Record<GkmaName, number>> = {
  none: GkmaAlgorithm.NONE,
  lkh: GkmaAlgorithm.LKH,
  "lkh+": GkmaAlgorithm.LKH_PLUS,
  ofc: GkmaAlgorithm.OFC,
};
const SIGNATURE_NUMBER: Readonly<Record<RekeySignature, number>> = {
  none: 0,
  ed25519: SignxAlg.ED25519,
  "ecdsa-p256-sha256": SignxAlg.ECDSA_P256_SHA256,
};
const RESYNCHRONISATION_NUMBER: Readonly<Record<ResynchronisationMethod, number>> = {
  registration: 1,
  fetch: 2,
  posting: 3,
  "repair-server": 4,
  "negative-acknowledgement": 5,
};
const DEREGISTRATION_NUMBER: Readonly<Record<DeregistrationPolicy, number>> = { none: 0, "one-way": 1, acknowledged: 2 };
const ARRANGEMENT_NUMBER: Readonly<Record<DataSaPolicy["arrangement"], number>> = {
  shared: DataArrangement.SHARED,
  "per-ssrc": DataArrangement.PER_SSRC,
};

/** The number of a GKMA on the wire. */
export function gkmaNumber(name: GkmaName): number {
  return ALGORITHM_NUMBER[name];
}

/** The number of a signature algorithm in SIGNX. */
export function signxAlgOf(signature: RekeySignature): number {
  return SIGNATURE_NUMBER[signature];
}

function named<T extends string>(numbers: Readonly<Record<T, number>>, number: number, what: string): T {
  for (const name of Object.keys(numbers) as T[]) if (numbers[name] === number) return name;
  throw policyError(`${what} ${number} is unknown`);
}

function policyError(detail: string): WatchwordError {
  return new WatchwordError("gsa.group-policy", `group policy: ${detail}`);
}

/** Octets of a group policy number. */
type Width = 1 | 2 | 4;

function numberOctets(value: number, width: Width): Uint8Array {
  const writer = new Writer("policy", width);
  if (width === 1) writer.u8("value", value);
  else if (width === 2) writer.u16("value", value);
  else writer.u32("value", value);
  return writer.finish();
}

/** Collects parameters in the order in which they are named; what is undefined is left out. */
class ParamWriter {
  readonly params: PolicyParam[] = [];

  octets(type: number, value: Uint8Array | undefined): this {
    if (value !== undefined) this.params.push({ type, value });
    return this;
  }

  all(type: number, values: readonly Uint8Array[]): this {
    for (const value of values) this.octets(type, value);
    return this;
  }

  number(type: number, value: number | undefined, width: Width): this {
    return this.octets(type, value === undefined ? undefined : numberOctets(value, width));
  }

  text(type: number, value: string | undefined): this {
    return this.octets(type, value === undefined ? undefined : utf8(value));
  }

  numbers(type: number, values: readonly number[], width: Width): this {
    for (const value of values) this.number(type, value, width);
    return this;
  }

  texts(type: number, values: readonly string[]): this {
    for (const value of values) this.text(type, value);
    return this;
  }
}

/** Reads parameters by their table (docs/protocol.md §14): lengths, repetition and what has to be understood. */
class ParamReader {
  readonly #values = new Map<number, Uint8Array[]>();
  readonly #table: AnyRegistry;

  constructor(table: AnyRegistry, params: readonly PolicyParam[]) {
    this.#table = table;
    for (const { type, value } of params) {
      const row = entryOf(table, type) as { octets?: number; repeated?: boolean } | undefined;
      if (row === undefined) {
        if (type <= LAST_MANDATORY) throw policyError(`parameter ${type} is not known and cannot be left aside`);
        continue;
      }
      if (row.octets !== undefined && value.length !== row.octets)
        throw this.error(type, `has ${value.length} octets where ${row.octets} belong`);
      const earlier = this.#values.get(type);
      if (earlier === undefined) this.#values.set(type, [value]);
      else if (row.repeated === true) earlier.push(value);
      else throw this.error(type, "is there twice");
    }
  }

  error(type: number, detail: string): WatchwordError {
    return policyError(`${nameOf(this.#table, type)} ${detail}`);
  }

  all(type: number): readonly Uint8Array[] {
    return this.#values.get(type) ?? [];
  }

  octets(type: number): Uint8Array | undefined {
    return this.all(type)[0];
  }

  required(type: number): Uint8Array {
    const value = this.octets(type);
    if (value === undefined) throw this.error(type, "is missing");
    return value;
  }

  number(type: number, range?: Range): number | undefined {
    const value = this.octets(type);
    return value === undefined ? undefined : this.#inRange(type, numberIn(value), range);
  }

  requiredNumber(type: number, range?: Range): number {
    return this.#inRange(type, numberIn(this.required(type)), range);
  }

  text(type: number): string | undefined {
    const value = this.octets(type);
    return value === undefined ? undefined : this.#text(type, value);
  }

  texts(type: number): string[] {
    return this.all(type).map((value) => this.#text(type, value));
  }

  #text(type: number, value: Uint8Array): string {
    const text = utf8Text(value);
    if (text === undefined || text.length === 0) throw this.error(type, "is no text");
    return text;
  }

  #inRange(type: number, value: number, range: Range | undefined): number {
    if (range !== undefined && (value < range.least || value > range.most))
      throw this.error(type, `is ${value}, outside ${range.least} to ${range.most}`);
    return value;
  }
}

interface Range {
  readonly least: number;
  readonly most: number;
}

function numberIn(value: Uint8Array): number {
  return value.reduce((number, octet) => number * 256 + octet, 0);
}

function optional<K extends string, V>(name: K, value: V | undefined): { readonly [P in K]?: V } {
  return (value === undefined ? {} : { [name]: value }) as { readonly [P in K]?: V };
}

/**
 * The policies of a message as SP payloads, in the order GROUP, REKEY, SRTP, DATA.
 * @throws WatchwordError `gsa.group-policy` for what the wire cannot say or a receiver would refuse
 */
export function encodeGroupPolicies(policies: GroupPolicies): SecurityPolicyPayload[] {
  const payloads: SecurityPolicyPayload[] = [];
  const add = (policyNo: number, protType: number, params: readonly PolicyParam[]): void => {
    if (params.some(({ value }) => value.length > 255)) throw policyError("a value is longer than 255 octets");
    payloads.push({ kind: "SP", policyNo, protType, params });
  };
  if (policies.group !== undefined) add(NUMBER.group, ProtType.GROUP, groupParams(policies.group));
  if (policies.rekey !== undefined) add(NUMBER.rekey, ProtType.REKEY, rekeyParams(policies.rekey));
  const srtp = new Map<string, number>();
  const numberOfSrtp = (policy: SrtpPolicy): number => {
    const params = srtpPolicyParams(policy);
    const key = params.map(({ type, value }) => `${type}=${formatHex(value)}`).join();
    const known = srtp.get(key);
    if (known !== undefined) return known;
    const policyNo = NUMBER.firstSrtp + srtp.size;
    if (policyNo > NUMBER.lastSrtp) throw policyError("too many SRTP policies");
    srtp.set(key, policyNo);
    add(policyNo, ProtType.SRTP, params);
    return policyNo;
  };
  const numbers = policies.data.map(({ srtp: policy }) => numberOfSrtp(policy));
  policies.data.forEach((data, index) => {
    add(data.number, ProtType.DATA, dataParams(data, numbers[index] as number));
  });
  decodeGroupPolicies(payloads);
  return payloads;
}

/**
 * Policies from SP payloads, checked as docs/protocol.md §14 and §21 demand.
 * @throws WatchwordError `gsa.group-policy`; MikeyError `mikey.policy-parameter` for an SRTP policy
 */
export function decodeGroupPolicies(payloads: readonly SecurityPolicyPayload[]): GroupPolicies {
  const numbers = new Set<number>();
  const srtp = new Map<number, SrtpPolicy>();
  let group: GroupPolicy | undefined;
  let rekey: RekeyPolicy | undefined;
  for (const { policyNo, protType, params } of payloads) {
    if (numbers.has(policyNo)) throw policyError(`two policies have the number ${policyNo}`);
    numbers.add(policyNo);
    const range = NUMBERS_OF.get(protType);
    if (range === undefined) throw policyError(`Prot type ${protType} is unknown`);
    if (policyNo < range.least || policyNo > range.most)
      throw policyError(`policy number ${policyNo} does not belong to Prot type ${protType}`);
    if (protType === ProtType.GROUP) group = groupPolicyOf(params);
    else if (protType === ProtType.REKEY) rekey = rekeyPolicyOf(params);
    else if (protType === ProtType.SRTP) srtp.set(policyNo, srtpPolicyOf(params, createToleranceUse([])));
  }
  const data = payloads
    .filter(({ protType }) => protType === ProtType.DATA)
    .map(({ policyNo, params }) => dataPolicyOf(policyNo, params, srtp));
  const mkis = data.flatMap((policy) => policy.mkis);
  if (new Set(mkis).size < mkis.length) throw policyError("two data SAs have one MKI");
  return { ...optional("group", group), ...optional("rekey", rekey), data };
}

const NUMBERS_OF: ReadonlyMap<number, Range> = new Map([
  [ProtType.SRTP, { least: NUMBER.firstSrtp, most: NUMBER.lastSrtp }],
  [ProtType.DATA, { least: 1, most: NUMBER.lastData }],
  [ProtType.REKEY, { least: NUMBER.rekey, most: NUMBER.rekey }],
  [ProtType.GROUP, { least: NUMBER.group, most: NUMBER.group }],
]);

const G = GroupParam;

/** Bits of access control. */
const ACCESS = { joins: 1, leaves: 2, joinsBatched: 4, leavesBatched: 8 } as const;

function groupParams(policy: GroupPolicy): PolicyParam[] {
  const { member, access } = policy;
  const accessBits = (Object.keys(ACCESS) as (keyof typeof ACCESS)[]).reduce(
    (bits, name) => bits | (access[name] ? ACCESS[name] : 0),
    0,
  );
  return new ParamWriter()
    .octets(G.GROUP, policy.group)
    .number(G.MEMBER_NUMBER, member?.number, 4)
    .number(G.ROLE, member === undefined ? undefined : roleBits(member.role), 1)
    .all(
      G.SSRC,
      (member?.ssrcs ?? []).map(({ stream, ssrc }) => concatBytes(numberOctets(stream, 1), numberOctets(ssrc, 4))),
    )
    .number(G.MEMBERSHIP_LIFETIME, member?.lifetime, 4)
    .number(G.ACCESS_CONTROL, accessBits, 1)
    .number(G.BATCH_INTERVAL, policy.batchIntervalMs, 4)
    .number(G.DEREGISTRATION, DEREGISTRATION_NUMBER[policy.deregistration], 1)
    .number(G.DEREGISTRATION_SPREAD, policy.deregistrationSpreadMs, 4)
    .number(G.CONFIRMATION, policy.confirmation ? 1 : 0, 1)
    .text(G.OWNER, policy.owner)
    .number(G.POLICY_VERSION, policy.version, 4)
    .number(G.MEMBERS, policy.members, 4)
    .octets(G.REGISTRATION_MODES, policy.registrationModes === undefined ? undefined : Uint8Array.from(policy.registrationModes))
    .text(G.TITLE, policy.title).params;
}

function groupPolicyOf(params: readonly PolicyParam[]): GroupPolicy {
  const reader = new ParamReader(G, params);
  const group = reader.required(G.GROUP);
  if (group.length === 0) throw reader.error(G.GROUP, "is empty");
  const access = reader.requiredNumber(G.ACCESS_CONTROL);
  const known = Object.values(ACCESS).reduce((all, bit) => all | bit, 0);
  if ((access & ~known) !== 0) throw reader.error(G.ACCESS_CONTROL, `has bits ${access & ~known} that are not known`);
  const has = (bit: number): boolean => (access & bit) !== 0;
  const modes = reader.octets(G.REGISTRATION_MODES);
  return {
    group,
    ...optional("member", membershipTermsOf(reader)),
    access: {
      joins: has(ACCESS.joins),
      leaves: has(ACCESS.leaves),
      joinsBatched: has(ACCESS.joinsBatched),
      leavesBatched: has(ACCESS.leavesBatched),
    },
    ...optional("batchIntervalMs", reader.number(G.BATCH_INTERVAL, GROUP_LIMITS.batchIntervalMs)),
    deregistration: named(DEREGISTRATION_NUMBER, reader.requiredNumber(G.DEREGISTRATION), "de-registration"),
    ...optional("deregistrationSpreadMs", reader.number(G.DEREGISTRATION_SPREAD, GROUP_LIMITS.delayMs)),
    confirmation: reader.requiredNumber(G.CONFIRMATION, { least: 0, most: 1 }) === 1,
    ...optional("owner", reader.text(G.OWNER)),
    ...optional("version", reader.number(G.POLICY_VERSION)),
    ...optional("members", reader.number(G.MEMBERS)),
    ...optional("registrationModes", modes === undefined ? undefined : [...modes]),
    ...optional("title", reader.text(G.TITLE)),
  };
}

/** The four parameters for one member go together. */
function membershipTermsOf(reader: ParamReader): MembershipTerms | undefined {
  const number = reader.number(G.MEMBER_NUMBER);
  if (number === undefined) {
    for (const type of [G.ROLE, G.SSRC, G.MEMBERSHIP_LIFETIME])
      if (reader.octets(type) !== undefined) throw reader.error(type, "is for a member, and none is named");
    return undefined;
  }
  const role = roleOf(reader.requiredNumber(G.ROLE));
  if (role === undefined) throw reader.error(G.ROLE, "is no role");
  const ssrcs = reader.all(G.SSRC).map((value) => ({ stream: value[0] as number, ssrc: numberIn(value.subarray(1)) }));
  if (ssrcs.some(({ stream, ssrc }) => stream === 0 || ssrc === 0)) throw reader.error(G.SSRC, "is 0, or of no stream");
  if (new Set(ssrcs.map(({ ssrc }) => ssrc)).size < ssrcs.length || new Set(ssrcs.map(({ stream }) => stream)).size < ssrcs.length)
    throw reader.error(G.SSRC, "repeats an SSRC or a stream");
  return { number, role, ssrcs, lifetime: reader.requiredNumber(G.MEMBERSHIP_LIFETIME, GROUP_LIMITS.lifetime) };
}

const R = RekeyParam;

function rekeyParams(policy: RekeyPolicy): PolicyParam[] {
  const { retransmission, tree } = policy;
  return new ParamWriter()
    .octets(R.GKMA, Uint8Array.of(ALGORITHM_NUMBER[policy.algorithm], policy.algorithmVersion, policy.degree))
    .number(R.KEK_ENCRYPTION, kekEncryptionOf(policy), 1)
    .number(R.V, macAlgOf(policy), 1)
    .number(R.SIGNATURE, SIGNATURE_NUMBER[policy.signature], 1)
    .octets(R.VERIFICATION_KEY, policy.verificationKey)
    .text(R.CONTROL_ADDRESS, policy.controlAddress)
    .text(R.SERVER_ADDRESS, policy.serverAddress)
    .number(R.KEK_LIFETIME, policy.kekLifetime, 4)
    .number(R.HEARTBEAT, policy.heartbeatMs, 4)
    .number(R.ACTIVATION_DELAY, policy.activationDelayMs, 4)
    .number(R.DEACTIVATION_DELAY, policy.deactivationDelayMs, 4)
    .octets(R.RETRANSMISSION, concatBytes(numberOctets(retransmission.count, 1), numberOctets(retransmission.firstMs, 2)))
    .octets(
      R.RESYNCHRONISATION,
      Uint8Array.from(policy.resynchronisation, (method) => RESYNCHRONISATION_NUMBER[method]),
    )
    .number(R.RESYNCHRONISATION_DELAY, policy.resynchronisationDelayMs, 4)
    .number(R.LARGEST_ID, tree?.largestId, 4)
    .number(R.PERIOD, policy.period, 4)
    .number(R.LEAF, tree?.leaf, 4)
    .texts(R.REPAIR_SERVER, policy.repairServers).params;
}

function rekeyPolicyOf(params: readonly PolicyParam[]): RekeyPolicy {
  const reader = new ParamReader(R, params);
  const [algorithm, algorithmVersion, degree] = reader.required(R.GKMA) as unknown as readonly [number, number, number];
  const name = named(ALGORITHM_NUMBER, algorithm, "GKMA");
  if (name === "none" ? degree !== 0 : degree < 2) throw reader.error(R.GKMA, `${name} has no degree ${degree}`);
  const keyLength = named(
    { "16": EncrAlg.AES_KWP_128, "32": EncrAlg.AES_KWP_256 },
    reader.requiredNumber(R.KEK_ENCRYPTION),
    "Encr alg",
  );
  const macLength = named({ "16": MacAlg.HMAC_SHA_256_128, "32": MacAlg.HMAC_SHA_256_256 }, reader.requiredNumber(R.V), "Auth alg");
  const signature = named(SIGNATURE_NUMBER, reader.requiredNumber(R.SIGNATURE), "signature");
  const verificationKey = reader.octets(R.VERIFICATION_KEY);
  if ((verificationKey === undefined) !== (signature === "none"))
    throw reader.error(R.VERIFICATION_KEY, "goes with a signature, and only with one");
  // Without signatures V is what authenticates (§16.2).
  if (signature === "none" && macLength === "16") throw reader.error(R.V, "is too short without signatures");
  const [count, high, low] = reader.required(R.RETRANSMISSION) as unknown as readonly [number, number, number];
  const retransmission = { count, firstMs: 256 * high + low };
  within(reader, R.RETRANSMISSION, count, GROUP_LIMITS.retransmissions);
  within(reader, R.RETRANSMISSION, retransmission.firstMs, GROUP_LIMITS.retransmissionMs);
  const heartbeatMs = reader.requiredNumber(R.HEARTBEAT);
  if (heartbeatMs !== 0) within(reader, R.HEARTBEAT, heartbeatMs, GROUP_LIMITS.heartbeatMs);
  const activationDelayMs = reader.requiredNumber(R.ACTIVATION_DELAY, GROUP_LIMITS.activationDelayMs);
  const deactivationDelayMs = reader.requiredNumber(R.DEACTIVATION_DELAY, GROUP_LIMITS.deactivationDelayMs);
  if (deactivationDelayMs < activationDelayMs + retransmissionSpanMs(retransmission))
    throw reader.error(R.DEACTIVATION_DELAY, "ends before the slowest sender has switched (§16.10)");
  const methods = reader.required(R.RESYNCHRONISATION);
  return {
    algorithm: name,
    algorithmVersion,
    degree,
    keyLength: keyLength === "16" ? 16 : 32,
    macLength: macLength === "16" ? 16 : 32,
    signature,
    ...optional("verificationKey", verificationKey),
    ...optional("controlAddress", reader.text(R.CONTROL_ADDRESS)),
    ...optional("serverAddress", reader.text(R.SERVER_ADDRESS)),
    kekLifetime: reader.requiredNumber(R.KEK_LIFETIME, GROUP_LIMITS.lifetime),
    heartbeatMs,
    activationDelayMs,
    deactivationDelayMs,
    retransmission,
    resynchronisation: Array.from(methods, (method) => named(RESYNCHRONISATION_NUMBER, method, "method of resynchronisation")),
    ...optional("resynchronisationDelayMs", reader.number(R.RESYNCHRONISATION_DELAY, GROUP_LIMITS.delayMs)),
    ...optional("period", reader.number(R.PERIOD, GROUP_LIMITS.period)),
    repairServers: reader.texts(R.REPAIR_SERVER),
    ...optional("tree", placeOf(reader)),
  };
}

/** Largest id and leaf go together. */
function placeOf(reader: ParamReader): RekeyPolicy["tree"] {
  const largestId = reader.number(R.LARGEST_ID);
  const leaf = reader.number(R.LEAF);
  if (largestId === undefined && leaf === undefined) return undefined;
  if (largestId === undefined || leaf === undefined || leaf > largestId) throw reader.error(R.LEAF, "is not in the tree");
  return { largestId, leaf };
}

function within(reader: ParamReader, type: number, value: number, { least, most }: Range): void {
  if (value < least || value > most) throw reader.error(type, `says ${value}, outside ${least} to ${most}`);
}

const D = DataParam;

function dataParams(policy: DataSaPolicy, srtpPolicyNo: number): PolicyParam[] {
  return new ParamWriter()
    .number(D.SRTP_POLICY, srtpPolicyNo, 1)
    .number(D.ARRANGEMENT, ARRANGEMENT_NUMBER[policy.arrangement], 1)
    .numbers(D.STREAM, policy.streams, 1)
    .numbers(D.SOURCE, policy.sources, 4)
    .texts(D.DESTINATION, policy.destinations)
    .number(D.LIFETIME, policy.lifetime, 4)
    .numbers(D.MKI, policy.mkis, 4).params;
}

function dataPolicyOf(number: number, params: readonly PolicyParam[], policies: ReadonlyMap<number, SrtpPolicy>): DataSaPolicy {
  const reader = new ParamReader(D, params);
  const srtp = policies.get(reader.requiredNumber(D.SRTP_POLICY));
  if (srtp === undefined) throw reader.error(D.SRTP_POLICY, "names no SRTP policy of the message");
  const numbers = (type: number): number[] => reader.all(type).map(numberIn);
  const lifetime = reader.requiredNumber(D.LIFETIME);
  if (lifetime !== 0) within(reader, D.LIFETIME, lifetime, GROUP_LIMITS.lifetime);
  // TESLA is reserved (§14.3).
  if ((reader.number(D.SOURCE_AUTHENTICATION) ?? 0) !== 0) throw reader.error(D.SOURCE_AUTHENTICATION, "is not supported");
  return {
    number,
    srtp,
    arrangement: named(ARRANGEMENT_NUMBER, reader.requiredNumber(D.ARRANGEMENT), "arrangement"),
    streams: numbers(D.STREAM),
    sources: numbers(D.SOURCE),
    destinations: reader.texts(D.DESTINATION),
    lifetime,
    mkis: numbers(D.MKI),
  };
}
