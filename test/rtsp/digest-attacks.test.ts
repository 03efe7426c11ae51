import { describe, expect, it } from "vitest";
import { type CryptoProvider, nobleCrypto } from "../../src/crypto/index.js";
import { type AuthenticationVerdict, createAuthenticator, type DigestAlgorithm, digestResponse } from "../../src/rtsp/index.js";

const URI = "rtsp://h/s";

function setting(options: { readonly algorithms?: readonly DigestAlgorithm[]; readonly withoutQop?: boolean } = {}) {
  let hashes = 0;
  let now = 1_000_000;
  const crypto: CryptoProvider = {
    ...nobleCrypto,
    hash: (name, ...parts) => {
      hashes++;
      return nobleCrypto.hash(name, ...parts);
    },
  };
  const server = createAuthenticator({
    realm: "r",
    password: (user) => (user === "alice" ? "secret" : undefined),
    crypto,
    clock: { now: () => now },
    ...options,
  });
  const check = (authorization: string | undefined): AuthenticationVerdict =>
    server.check({ method: "PLAY", uri: URI, authorization, secure: false });
  return {
    check,
    pass: (milliseconds: number) => {
      now += milliseconds;
    },
    nonce: (): string => nonceOf(check(undefined)),
    /** Hashes that a call takes. */
    cost: (call: () => unknown): number => {
      const before = hashes;
      call();
      return hashes - before;
    },
  };
}

function nonceOf(verdict: AuthenticationVerdict): string {
  return verdict.ok ? "" : (/nonce="([^"]+)"/.exec(verdict.challenges[0] ?? "")?.[1] ?? "");
}

function isStale(verdict: AuthenticationVerdict): boolean {
  return !verdict.ok && verdict.challenges.every((challenge) => challenge.includes("stale=true"));
}

function credentials(
  nonce: string,
  count: number,
  { username = "alice", password = "secret", algorithm = "SHA-256" as DigestAlgorithm, qop = true } = {},
): string {
  const nc = count.toString(16).padStart(8, "0");
  const response = digestResponse(nobleCrypto, {
    algorithm,
    username,
    realm: "r",
    password,
    method: "PLAY",
    uri: URI,
    nonce,
    ...(qop ? { qop: { cnonce: "c", count: nc } } : {}),
  });
  const counted = qop ? `, qop=auth, nc=${nc}, cnonce="c"` : "";
  return `Digest username="${username}", realm="r", nonce="${nonce}", uri="${URI}", algorithm=${algorithm}, response="${response}"${counted}`;
}

describe("Digest under attack", () => {
  it("takes a nonce count once, and none that is lower", () => {
    const { check, nonce } = setting();
    const mine = nonce();
    const recorded = credentials(mine, 5);
    expect(check(recorded).ok).toBe(true);
    expect(isStale(check(recorded))).toBe(true);
    expect(isStale(check(credentials(mine, 4)))).toBe(true);
    expect(isStale(check(credentials(mine, 0)))).toBe(true);
    expect(check(credentials(mine, 6)).ok).toBe(true);
    expect(isStale(check(credentials(nonce(), 0)))).toBe(true);
  });

  it("takes no nonce of another server, of another realm, or changed in any place", () => {
    const { check, nonce } = setting();
    const foreign = setting().nonce();
    expect(check(credentials(foreign, 1))).toMatchObject({ ok: false });
    expect(isStale(check(credentials(foreign, 1)))).toBe(false);
    const mine = nonce();
    for (let at = 0; at < mine.length; at++) {
      const changed = mine.slice(0, at) + (mine[at] === "0" ? "1" : "0") + mine.slice(at + 1);
      const verdict = check(credentials(changed, 1));
      expect([verdict.ok, isStale(verdict)]).toEqual([false, false]);
    }
    expect(check(credentials(mine, 1)).ok).toBe(true);
  });

  it("calls an expired nonce stale only where the password is right", () => {
    const { check, nonce, pass } = setting();
    const old = nonce();
    pass(301_000);
    expect(isStale(check(credentials(old, 1)))).toBe(true);
    expect(isStale(check(credentials(old, 1, { password: "guess" })))).toBe(false);
    expect(isStale(check(credentials(old, 1, { username: "bob" })))).toBe(false);
  });

  it("takes no algorithm that it did not offer, and no digest without a count where it wants one", () => {
    const strict = setting({ algorithms: ["SHA-256"], withoutQop: false });
    for (const attempt of [
      credentials(strict.nonce(), 1, { algorithm: "MD5" }),
      credentials(strict.nonce(), 1, { algorithm: "MD5" }).replace("algorithm=MD5, ", ""),
      credentials(strict.nonce(), 1, { algorithm: "MD5" }).replace("algorithm=MD5", "algorithm=SHA-256"),
      credentials(strict.nonce(), 1, { qop: false }),
      `Basic ${btoa("alice:secret")}`,
    ])
      expect(strict.check(attempt)).toMatchObject({ ok: false });
    expect(strict.check(credentials(strict.nonce(), 1)).ok).toBe(true);
  });

  it("costs the same for a user that does not exist", () => {
    const { check, nonce, cost } = setting();
    const known = cost(() => check(credentials(nonce(), 1, { password: "guess" })));
    const unknown = cost(() => check(credentials(nonce(), 1, { username: "nobody", password: "guess" })));
    expect(unknown).toBe(known);
    expect(known).toBeGreaterThan(0);
  });

  it("gives 100 000 nonces away without remembering one", () => {
    const { check, nonce } = setting();
    const first = nonce();
    for (let n = 0; n < 100_000; n++) check(undefined);
    expect(check(credentials(first, 1)).ok).toBe(true);
  });

  it("takes nothing twice after so many nonces were used that the first count is forgotten", () => {
    const { check, nonce, pass } = setting();
    const recorded = credentials(nonce(), 1);
    expect(check(recorded).ok).toBe(true);
    for (let n = 0; n < 5000; n++) {
      pass(1);
      expect(check(credentials(nonce(), 1)).ok).toBe(true);
    }
    expect(isStale(check(recorded))).toBe(true);
    pass(1);
    expect(check(credentials(nonce(), 1)).ok).toBe(true);
  });
});
