import { CodecError, equalBytes, formatBase64, formatHex, parseBase64, utf8, utf8Text } from "../bytes/index.js";
import { type CryptoProvider, md5 } from "../crypto/index.js";
import type { Clock } from "../io/index.js";

/** Digest algorithms of RFC 7616 §6.1 that are offered or answered. */
export type DigestAlgorithm = "MD5" | "SHA-256";

/** One challenge or one set of credentials: scheme and parameters, names in lower case. */
export interface AuthenticationFields {
  /** `basic`, `digest`, … in lower case. */
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
  /** What follows the scheme where it is not parameters: the base64 of Basic. */
  readonly token?: string;
}

const MAX_LENGTH = 16_384;
const MAX_PARAMETERS = 64;

/**
 * Reads the value of WWW-Authenticate or Authorization (RFC 7235 §4): one or several schemes with comma-separated parameters.
 * @throws CodecError `rtsp.authentication`
 */
export function parseAuthentication(value: string): AuthenticationFields[] {
  if (value.length > MAX_LENGTH) throw fault(MAX_LENGTH, "too long");
  const found: { scheme: string; parameters: Map<string, string>; token?: string }[] = [];
  let at = 0;
  let count = 0;
  while (at < value.length) {
    at = skip(value, at, /[\s,]/);
    if (at >= value.length) break;
    const nameEnd = skip(value, at, /[^\s,="]/);
    const name = value.slice(at, nameEnd);
    if (name === "") throw fault(at, "scheme or name expected");
    if (++count > MAX_PARAMETERS) throw fault(at, "too many parameters");
    const afterName = skip(value, nameEnd, /[ \t]/);
    const current = found.at(-1);
    if (value.charAt(afterName) === "=" && current !== undefined && current.token === undefined) {
      const [text, end] = readValue(value, skip(value, afterName + 1, /[ \t]/));
      const key = name.toLowerCase();
      // The first one counts; a second would let two readers see two things.
      if (current.parameters.has(key)) throw fault(at, `${key} is given twice`);
      current.parameters.set(key, text);
      at = end;
      continue;
    }
    const next = { scheme: name.toLowerCase(), parameters: new Map<string, string>() };
    found.push(next);
    at = afterName;
    if (next.scheme === "basic" && !/^[a-z]+\s*=\s*"/i.test(value.slice(at, at + 64))) {
      const end = skip(value, at, /[^\s,]/);
      found[found.length - 1] = { ...next, token: value.slice(at, end) };
      at = end;
    }
  }
  if (found.length === 0) throw fault(0, "no scheme");
  return found;
}

/** What a digest is computed over (RFC 7616 §3.4.1). */
export interface DigestInput {
  readonly algorithm: DigestAlgorithm;
  /** `…-sess`: the password hash is bound to nonce and cnonce. */
  readonly session?: boolean;
  readonly username: string;
  readonly realm: string;
  readonly password: string;
  readonly method: string;
  readonly uri: string;
  readonly nonce: string;
  /** Absent: the form of RFC 2069, which has neither cnonce nor count. */
  readonly qop?: { readonly cnonce: string /** Eight hexadecimal digits. */; readonly count: string };
}

/** The `response` parameter in lower-case hexadecimal (RFC 7616 §3.4.1; RFC 2617 §3.2.2.1). */
export function digestResponse(crypto: CryptoProvider, input: DigestInput): string {
  const hash = (text: string): string => formatHex(input.algorithm === "MD5" ? md5(utf8(text)) : crypto.hash("sha256", utf8(text)));
  const secret = hash(`${input.username}:${input.realm}:${input.password}`);
  const a1 = input.session === true ? hash(`${secret}:${input.nonce}:${input.qop?.cnonce ?? ""}`) : secret;
  const a2 = hash(`${input.method}:${input.uri}`);
  return hash(
    input.qop === undefined
      ? `${a1}:${input.nonce}:${a2}`
      : `${a1}:${input.nonce}:${input.qop.count}:${input.qop.cnonce}:auth:${a2}`,
  );
}

/** How a server authenticates. */
export interface AuthenticatorOptions {
  readonly realm: string;
  /** The password of a user, or undefined where there is no such user. */
  readonly password: (user: string) => string | undefined;
  readonly crypto: CryptoProvider;
  readonly clock: Clock;
  /**
   * Default both, SHA-256 first as RFC 7616 §3.7 wants preference expressed; MD5 last, because clients that know only MD5
   * take the last challenge.
   */
  readonly algorithms?: readonly DigestAlgorithm[];
  /** Accept Basic over a secure channel. Default false: the password itself crosses. */
  readonly basic?: boolean;
  /** Accept digests in the form of RFC 2069, which GStreamer sends. They can be replayed while the nonce lives. Default true. */
  readonly withoutQop?: boolean;
  /** Seconds that a nonce lives. Default 300. */
  readonly nonceLifetime?: number;
}

/** A request as far as authentication looks at it. */
export interface AuthenticatedRequest {
  readonly method: string;
  readonly uri: string;
  readonly authorization: string | undefined;
  /** Whether TLS protects the channel. */
  readonly secure: boolean;
}

/** What came of a request's credentials. All failures look alike but for `stale`, which RFC 7616 §3.3 wants told. */
export type AuthenticationVerdict =
  | { readonly ok: true; readonly user: string }
  | { readonly ok: false /** WWW-Authenticate values of the 401. */; readonly challenges: readonly string[] };

/** Checks Digest (RFC 7616, RFC 2617) and Basic (RFC 7617) credentials. */
export interface Authenticator {
  check(request: AuthenticatedRequest): AuthenticationVerdict;
}

/** Nonces whose counts are remembered at a time; beyond them the oldest become stale. */
const MAX_NONCES = 4096;

/** Milliseconds. @param nonce one of ours */
function timeOf(nonce: string): number {
  return Number.parseInt(nonce.slice(0, 12), 16);
}

interface Outcome {
  readonly user?: string;
  readonly stale?: boolean;
}

const REFUSED: Outcome = {};
const HEX_COUNT = /^[0-9a-f]{8}$/i;

/**
 * Creates the server's end of authentication. Nonces carry their time and a MAC over it, so that only those that were used take memory;
 * a nonce count must increase (RFC 7616 §3.4, against replays).
 */
export function createAuthenticator(options: AuthenticatorOptions): Authenticator {
  const { crypto, clock, realm } = options;
  const algorithms = options.algorithms ?? ["SHA-256", "MD5"];
  const lifetime = (options.nonceLifetime ?? 300) * 1000;
  const withoutQop = options.withoutQop ?? true;
  const nonceKey = crypto.hmac("sha256", crypto.randomBytes(32));
  const counts = new Map<string, number>();
  /** Time of the newest nonce whose count was forgotten: nonces not remembered are taken only where they are newer. */
  let forgotten = 0;
  /** Stands in for the password of a user that does not exist, so that both cases cost the same. */
  const nobody = formatHex(crypto.randomBytes(16));

  const makeNonce = (): string => {
    const time = clock.now().toString(16).padStart(12, "0");
    const salt = formatHex(crypto.randomBytes(8));
    return `${time}${salt}${nonceTag(time + salt)}`;
  };
  const nonceTag = (text: string): string => formatHex(nonceKey.compute(utf8(text)).subarray(0, 16));
  const nonceState = (nonce: string): "fresh" | "stale" | "foreign" => {
    if (!/^[0-9a-f]{60}$/.test(nonce)) return "foreign";
    if (!equalBytes(utf8(nonceTag(nonce.slice(0, 28))), utf8(nonce.slice(28)))) return "foreign";
    const age = clock.now() - timeOf(nonce);
    return age >= 0 && age <= lifetime ? "fresh" : "stale";
  };
  const challenges = (secure: boolean, stale: boolean): string[] => {
    const nonce = makeNonce();
    const digest = algorithms.map(
      (algorithm) => `Digest realm="${realm}", qop="auth", nonce="${nonce}", algorithm=${algorithm}${stale ? ", stale=true" : ""}`,
    );
    return options.basic === true && secure ? [`Basic realm="${realm}"`, ...digest] : digest;
  };

  const checkDigest = (request: AuthenticatedRequest, parameters: ReadonlyMap<string, string>): Outcome => {
    const get = (name: string): string => parameters.get(name) ?? "";
    const algorithm = algorithms.find((name) => name.toLowerCase() === (parameters.get("algorithm") ?? "MD5").toLowerCase());
    const qop = parameters.get("qop");
    const username = get("username");
    const nonce = get("nonce");
    if (algorithm === undefined || get("realm") !== realm || get("uri") !== request.uri) return REFUSED;
    if (qop === undefined ? !withoutQop : qop.toLowerCase() !== "auth" || !HEX_COUNT.test(get("nc")) || get("cnonce") === "")
      return REFUSED;
    const state = nonceState(nonce);
    if (state === "foreign") return REFUSED;
    const password = options.password(username);
    const expected = digestResponse(crypto, {
      algorithm,
      username,
      realm,
      password: password ?? nobody,
      method: request.method,
      uri: request.uri,
      nonce,
      ...(qop === undefined ? {} : { qop: { cnonce: get("cnonce"), count: get("nc") } }),
    });
    const right = equalBytes(utf8(expected), utf8(get("response").toLowerCase()));
    if (!right || password === undefined) return REFUSED;
    // The credentials are right, only old: the client may repeat them with the new nonce without asking its user.
    if (state === "stale" || (qop !== undefined && !countUp(nonce, Number.parseInt(get("nc"), 16)))) return { stale: true };
    return { user: username };
  };
  const countUp = (nonce: string, count: number): boolean => {
    const last = counts.get(nonce);
    if (last === undefined ? timeOf(nonce) <= forgotten || count === 0 : count <= last) return false;
    counts.delete(nonce);
    counts.set(nonce, count);
    if (counts.size > MAX_NONCES)
      for (const oldest of counts.keys()) {
        // Without its count, what was recorded under it could be replayed.
        forgotten = Math.max(forgotten, timeOf(oldest));
        counts.delete(oldest);
        break;
      }
    return true;
  };
  const checkBasic = (token: string): Outcome => {
    let text: string | undefined;
    try {
      text = utf8Text(parseBase64(token, "rtsp.Authorization"));
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
    }
    const colon = text?.indexOf(":") ?? -1;
    if (text === undefined || colon < 0) return REFUSED;
    const user = text.slice(0, colon);
    const password = options.password(user);
    const mac = (secret: string): Uint8Array => nonceKey.compute(utf8(secret));
    const right = equalBytes(mac(text.slice(colon + 1)), mac(password ?? nobody));
    return right && password !== undefined ? { user } : REFUSED;
  };

  return {
    check(request) {
      const fields = readCredentials(request.authorization);
      let outcome = REFUSED;
      if (fields?.scheme === "digest") outcome = checkDigest(request, fields.parameters);
      else if (fields?.scheme === "basic" && options.basic === true && request.secure) outcome = checkBasic(fields.token ?? "");
      if (outcome.user !== undefined) return { ok: true, user: outcome.user };
      return { ok: false, challenges: challenges(request.secure, outcome.stale === true) };
    },
  };
}

/** Who a client is. */
export interface Credentials {
  readonly user: string;
  readonly password: string;
}

/** The client's end: turns challenges into Authorization values. */
export interface Authorizer {
  /**
   * Takes the WWW-Authenticate values of a 401.
   * @returns false when there is nothing to try: no scheme that is known and allowed, or the credentials were already refused
   */
  challenge(values: readonly string[]): boolean;
  /** Notes that the server took the credentials: a later challenge is then a new nonce, not a refusal. */
  accepted(): void;
  /** The Authorization value of a request, or undefined before any challenge. */
  authorize(method: string, uri: string): string | undefined;
}

/** How a client authenticates. */
export interface AuthorizerOptions {
  readonly credentials: Credentials;
  readonly crypto: CryptoProvider;
  /** Whether TLS protects the channel; Basic is answered only there unless allowed. */
  readonly secure: boolean;
  /** Answer Basic over an open channel too. Default false. */
  readonly allowOpenBasic?: boolean;
}

interface ChosenDigest {
  readonly algorithm: DigestAlgorithm;
  readonly algorithmText: string | undefined;
  readonly session: boolean;
  readonly realm: string;
  readonly nonce: string;
  readonly opaque: string | undefined;
  readonly qop: boolean;
}

/** Creates the client's end of authentication: Digest SHA-256 before MD5 before Basic. */
export function createAuthorizer(options: AuthorizerOptions): Authorizer {
  const { credentials, crypto } = options;
  let chosen: ChosenDigest | "basic" | undefined;
  let count = 0;
  let proven = false;

  return {
    accepted() {
      proven = chosen !== undefined;
    },
    challenge(values) {
      const fields = values.flatMap(readChallenges);
      const digests = fields.flatMap((field) => chooseDigest(field) ?? []);
      const digest = digests.find(({ candidate }) => candidate.algorithm === "SHA-256") ?? digests[0];
      const basic = fields.some(({ scheme }) => scheme === "basic") && (options.secure || options.allowOpenBasic === true);
      if (digest !== undefined) {
        // A second refusal means wrong credentials, unless only the nonce was old.
        if (chosen !== undefined && !digest.stale && !proven) return false;
        chosen = digest.candidate;
        count = 0;
        proven = false;
        return true;
      }
      if (!basic || chosen !== undefined) return false;
      chosen = "basic";
      return true;
    },
    authorize(method, uri) {
      if (chosen === undefined) return undefined;
      if (chosen === "basic") return `Basic ${formatBase64(utf8(`${credentials.user}:${credentials.password}`))}`;
      const { algorithm, algorithmText, session, realm, nonce, opaque } = chosen;
      count++;
      const cnonce = formatHex(crypto.randomBytes(16));
      const qop = { cnonce, count: count.toString(16).padStart(8, "0") };
      const response = digestResponse(crypto, {
        algorithm,
        session,
        username: credentials.user,
        realm,
        password: credentials.password,
        method,
        uri,
        nonce,
        ...(chosen.qop ? { qop } : {}),
      });
      const parts = [
        `username="${quote(credentials.user)}"`,
        `realm="${quote(realm)}"`,
        `nonce="${quote(nonce)}"`,
        `uri="${uri}"`,
        `response="${response}"`,
      ];
      if (algorithmText !== undefined) parts.push(`algorithm=${algorithmText}`);
      if (opaque !== undefined) parts.push(`opaque="${quote(opaque)}"`);
      if (chosen.qop) parts.push("qop=auth", `nc=${qop.count}`, `cnonce="${qop.cnonce}"`);
      return `Digest ${parts.join(", ")}`;
    },
  };
}

function chooseDigest(fields: AuthenticationFields): { readonly candidate: ChosenDigest; readonly stale: boolean } | undefined {
  const { parameters } = fields;
  const algorithmText = parameters.get("algorithm");
  const match = /^(MD5|SHA-256)(-sess)?$/i.exec(algorithmText ?? "MD5");
  const nonce = parameters.get("nonce");
  const realm = parameters.get("realm");
  if (fields.scheme !== "digest" || match === null || nonce === undefined || realm === undefined) return undefined;
  const offered = parameters
    .get("qop")
    ?.split(",")
    .map((word) => word.trim().toLowerCase());
  const qop = offered?.includes("auth") ?? false;
  const session = match[2] !== undefined;
  // auth-int alone is beyond us, and a session key needs the cnonce that only qop carries.
  if ((offered !== undefined && !qop) || (session && !qop)) return undefined;
  return {
    candidate: {
      algorithm: (match[1] as string).toUpperCase() as DigestAlgorithm,
      algorithmText,
      session,
      realm,
      nonce,
      opaque: parameters.get("opaque"),
      qop,
    },
    stale: parameters.get("stale")?.toLowerCase() === "true",
  };
}

function readChallenges(value: string): AuthenticationFields[] {
  try {
    return parseAuthentication(value);
  } catch (error) {
    if (error instanceof CodecError) return [];
    throw error;
  }
}

function readCredentials(value: string | undefined): AuthenticationFields | undefined {
  return value === undefined ? undefined : readChallenges(value)[0];
}

function fault(at: number, detail: string): CodecError {
  return new CodecError("rtsp.authentication", "rtsp.authentication", at, detail);
}

function skip(text: string, from: number, what: RegExp): number {
  let at = from;
  while (at < text.length && what.test(text.charAt(at))) at++;
  return at;
}

function readValue(text: string, start: number): readonly [value: string, end: number] {
  if (text.charAt(start) !== '"') {
    const end = skip(text, start, /[^\s,]/);
    return [text.slice(start, end), end];
  }
  let value = "";
  for (let at = start + 1; at < text.length; at++) {
    const unit = text.charAt(at);
    if (unit === '"') return [value, at + 1];
    if (unit === "\\") at++;
    value += text.charAt(at);
  }
  throw fault(start, "quotation mark not closed");
}

function quote(text: string): string {
  return text.replace(/["\\]/g, "\\$&");
}
