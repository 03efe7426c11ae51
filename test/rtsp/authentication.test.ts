import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError, formatBase64, utf8 } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import {
  type AuthenticatorOptions,
  createAuthenticator,
  createAuthorizer,
  digestResponse,
  parseAuthentication,
} from "../../src/rtsp/index.js";

const crypto = nobleCrypto;

describe("digests", () => {
  it("are those of RFC 2617 §3.5", () => {
    expect(
      digestResponse(crypto, {
        algorithm: "MD5",
        username: "Mufasa",
        realm: "testrealm@host.com",
        password: "Circle Of Life",
        method: "GET",
        uri: "/dir/index.html",
        nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093",
        qop: { cnonce: "0a4f113b", count: "00000001" },
      }),
    ).toBe("6629fae49393a05397450978507c4ef1");
  });

  it.each([
    ["MD5", "8ca523f5e9506fed4657c9700eebdbec"],
    ["SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"],
  ] as const)("are those of RFC 7616 §3.9.1 for %s", (algorithm, response) => {
    expect(
      digestResponse(crypto, {
        algorithm,
        username: "Mufasa",
        realm: "http-auth@example.org",
        password: "Circle of Life",
        method: "GET",
        uri: "/dir/index.html",
        nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        qop: { cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", count: "00000001" },
      }),
    ).toBe(response);
  });

  it("without qop are those of RFC 2069 (erratum 749's corrected example)", () => {
    expect(
      digestResponse(crypto, {
        algorithm: "MD5",
        username: "Mufasa",
        realm: "testrealm@host.com",
        password: "CircleOfLife",
        method: "GET",
        uri: "/dir/index.html",
        nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093",
      }),
    ).toBe("1949323746fe6a43ef61f9606e7febea");
  });
});

describe("challenges and credentials as text", () => {
  it.each([
    ['Digest realm="a, b", nonce=xyz , qop="auth"', [["digest", { realm: "a, b", nonce: "xyz", qop: "auth" }, undefined]]],
    ['Basic realm="a"', [["basic", { realm: "a" }, undefined]]],
    ["Basic QWxhZGRpbjpvcGVu==", [["basic", {}, "QWxhZGRpbjpvcGVu=="]]],
    [
      'Digest realm="a",nonce="b", Basic realm = "c\\"d"',
      [
        ["digest", { realm: "a", nonce: "b" }, undefined],
        ["basic", { realm: 'c"d' }, undefined],
      ],
    ],
    ["Negotiate", [["negotiate", {}, undefined]]],
  ])("reads %s", (text, expected) => {
    expect(
      parseAuthentication(text).map(({ scheme, parameters, token }) => [scheme, Object.fromEntries(parameters), token]),
    ).toEqual(expected);
  });

  it.each([[""], [" , "], ['Digest a="'], ["Digest a=b, a=c"], ['="x"'], ["x".repeat(20_000)], ["a ".repeat(65)]])(
    "refuses %.20j",
    (text) => {
      expect(() => parseAuthentication(text)).toThrow(CodecError);
    },
  );

  it("gives fields or a CodecError for any text", () => {
    const piece = fc.constantFrom("Digest ", "Basic ", "a", "=", '"', ",", " ", "\\", "realm", "é");
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (parts) => {
        try {
          parseAuthentication(parts.join(""));
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError);
        }
      }),
    );
  });
});

const time = { now: 1_000_000 };
const base: AuthenticatorOptions = {
  realm: "watchword",
  password: (user) => (user === "alice" ? "s3cret" : user === "stale" ? "x" : undefined),
  crypto,
  clock: { now: () => time.now },
};
const request = { method: "DESCRIBE", uri: "rtsp://h/s" };

function roundTrip(
  server: ReturnType<typeof createAuthenticator>,
  credentials: { user: string; password: string },
  secure = false,
): string {
  const client = createAuthorizer({ credentials, crypto, secure });
  for (let attempt = 0; attempt < 3; attempt++) {
    const verdict = server.check({ ...request, authorization: client.authorize(request.method, request.uri), secure });
    if (verdict.ok) return verdict.user;
    if (!client.challenge(verdict.challenges)) return `refused after ${attempt}`;
  }
  return "still challenged";
}

describe("both ends", () => {
  it.each<[name: string, options: Partial<AuthenticatorOptions>, secure: boolean]>([
    ["SHA-256 before MD5", {}, false],
    ["MD5 alone", { algorithms: ["MD5"] }, false],
    ["SHA-256 alone", { algorithms: ["SHA-256"] }, false],
    ["Basic alone over TLS", { algorithms: [], basic: true }, true],
  ])("agree by %s", (_name, options, secure) => {
    const server = createAuthenticator({ ...base, ...options });
    expect(roundTrip(server, { user: "alice", password: "s3cret" }, secure)).toBe("alice");
    expect(roundTrip(server, { user: "stale", password: "x" }, secure)).toBe("stale");
    expect(roundTrip(server, { user: "alice", password: "wrong" }, secure)).toBe("refused after 1");
    expect(roundTrip(server, { user: "bob", password: "s3cret" }, secure)).toBe("refused after 1");
  });

  it("do not agree on Basic in the open", () => {
    const server = createAuthenticator({ ...base, algorithms: [], basic: true });
    expect(roundTrip(server, { user: "alice", password: "s3cret" })).toBe("refused after 0");
    const token = `Basic ${formatBase64(utf8("alice:s3cret"))}`;
    expect(server.check({ ...request, authorization: token, secure: false })).toMatchObject({ ok: false });
    expect(server.check({ ...request, authorization: token, secure: true })).toEqual({ ok: true, user: "alice" });
  });

  it("go on over many requests with one nonce, and over a new one when it is stale", () => {
    const server = createAuthenticator(base);
    const client = createAuthorizer({ credentials: { user: "alice", password: "s3cret" }, crypto, secure: false });
    const ask = () => server.check({ ...request, authorization: client.authorize(request.method, request.uri), secure: false });
    const first = ask();
    if (first.ok) throw new Error("unexpected");
    client.challenge(first.challenges);
    for (let count = 0; count < 5; count++) expect(ask()).toEqual({ ok: true, user: "alice" });
    time.now += 301_000;
    const late = ask();
    if (late.ok) throw new Error("unexpected");
    expect(late.challenges[0]).toContain("stale=true");
    expect(client.challenge(late.challenges)).toBe(true);
    expect(ask()).toEqual({ ok: true, user: "alice" });
  });

  it("go on after a server forgot its nonces, when it had taken the credentials before", () => {
    const client = createAuthorizer({ credentials: { user: "alice", password: "s3cret" }, crypto, secure: false });
    for (let life = 0; life < 2; life++) {
      const server = createAuthenticator(base);
      const ask = () => server.check({ ...request, authorization: client.authorize(request.method, request.uri), secure: false });
      const verdict = ask();
      if (verdict.ok) throw new Error("unexpected");
      expect(client.challenge(verdict.challenges)).toBe(true);
      expect(ask()).toEqual({ ok: true, user: "alice" });
      client.accepted();
    }
  });
});

describe("the server's end", () => {
  const server = createAuthenticator({ ...base, clock: { now: () => 1_000_000 }, algorithms: ["MD5"] });
  const challenge = server.check({ ...request, authorization: undefined, secure: false });
  const nonce = challenge.ok ? "" : (/nonce="([^"]+)"/.exec(challenge.challenges[0] ?? "")?.[1] ?? "");

  function credentials(change: Partial<Record<string, string>> = {}, over: { method?: string; count?: string } = {}): string {
    const count = over.count ?? "00000001";
    const response = digestResponse(crypto, {
      algorithm: "MD5",
      username: "alice",
      realm: "watchword",
      password: "s3cret",
      method: over.method ?? "DESCRIBE",
      uri: "rtsp://h/s",
      nonce,
      qop: { cnonce: "c", count },
    });
    const fields = {
      username: '"alice"',
      realm: '"watchword"',
      nonce: `"${nonce}"`,
      uri: '"rtsp://h/s"',
      qop: "auth",
      nc: count,
      cnonce: '"c"',
      response: `"${response}"`,
      ...change,
    };
    return `Digest ${Object.entries(fields)
      .filter(([, value]) => value !== "")
      .map(([name, value]) => `${name}=${value}`)
      .join(", ")}`;
  }
  const check = (authorization: string | undefined) => server.check({ ...request, authorization, secure: false });

  it("takes the first use of a count and refuses its replay as stale", () => {
    expect(check(credentials())).toEqual({ ok: true, user: "alice" });
    const replay = check(credentials());
    expect(replay).toMatchObject({ ok: false, challenges: [expect.stringContaining("stale=true")] });
    expect(check(credentials({}, { count: "00000003" }))).toMatchObject({ ok: true });
    expect(check(credentials({}, { count: "00000002" }))).toMatchObject({ ok: false });
  });

  it.each([
    ["nothing", undefined],
    ["junk", "junk"],
    ["another scheme", "Bearer x"],
    ["another user", credentials({ username: '"bob"' })],
    ["another realm", credentials({ realm: '"x"' })],
    ["another URI", credentials({ uri: '"rtsp://h/t"' })],
    ["another method", credentials({}, { method: "SETUP", count: "00000010" })],
    ["an algorithm that was not offered", credentials({ algorithm: "SHA-256" })],
    ["auth-int", credentials({ qop: "auth-int" })],
    ["no cnonce", credentials({ cnonce: "" })],
    ["no count", credentials({ nc: "" })],
    ["a foreign nonce", credentials({ nonce: '"abc"' })],
    ["a forged nonce", credentials({ nonce: `"${nonce.slice(0, -1)}${nonce.endsWith("0") ? "1" : "0"}"` })],
    ["no response", credentials({ response: "" })],
    ["Basic, which is off", `Basic ${formatBase64(utf8("alice:s3cret"))}`],
  ])("refuses %s, all in the same words", (_name, authorization) => {
    const verdict = check(authorization);
    if (verdict.ok) throw new Error("accepted");
    expect(verdict.challenges.map((text) => text.replace(/nonce="[^"]*"/, "nonce"))).toEqual([
      'Digest realm="watchword", qop="auth", nonce, algorithm=MD5',
    ]);
  });

  it("takes the form of RFC 2069 unless told not to", () => {
    const response = digestResponse(crypto, {
      algorithm: "MD5",
      username: "alice",
      realm: "watchword",
      password: "s3cret",
      method: "DESCRIBE",
      uri: "rtsp://h/s",
      nonce,
    });
    const text = `Digest username="alice", realm="watchword", nonce="${nonce}", uri="rtsp://h/s", response="${response}"`;
    expect(check(text)).toEqual({ ok: true, user: "alice" });
    const strict = createAuthenticator({ ...base, algorithms: ["MD5"], withoutQop: false });
    const fresh = strict.check({ ...request, authorization: undefined, secure: false });
    if (fresh.ok) throw new Error("unexpected");
    expect(strict.check({ ...request, authorization: text, secure: false })).toMatchObject({ ok: false });
  });
});

describe("the client's end", () => {
  const client = () => createAuthorizer({ credentials: { user: 'al"ice', password: "p" }, crypto, secure: false });

  it("has nothing to say before a challenge, and nothing to schemes it does not know", () => {
    expect(client().authorize("A", "u")).toBeUndefined();
    expect(client().challenge(["Bearer realm=x"])).toBe(false);
    expect(client().challenge(['Digest realm="a", nonce="b", algorithm=SHA-512'])).toBe(false);
    expect(client().challenge(['Digest realm="a", nonce="b", qop="auth-int"'])).toBe(false);
    expect(client().challenge(["Digest a="])).toBe(false);
    expect(client().challenge(['Basic realm="a"'])).toBe(false);
  });

  it("answers in the form of RFC 2069 where no qop is offered, and quotes what needs it", () => {
    const authorizer = client();
    expect(authorizer.challenge(['Digest realm="a", nonce="b", opaque="o"'])).toBe(true);
    const text = authorizer.authorize("PLAY", "rtsp://h/") ?? "";
    expect(text).toContain('username="al\\"ice"');
    expect(text).toContain('opaque="o"');
    expect(text).not.toContain("qop");
    expect(text).not.toContain("algorithm");
  });

  it("counts up and binds -sess algorithms to the cnonce", () => {
    const authorizer = client();
    expect(authorizer.challenge(['Digest realm="a", nonce="b", qop="auth,auth-int", algorithm=SHA-256-sess'])).toBe(true);
    expect(authorizer.authorize("PLAY", "u")).toContain("nc=00000001");
    expect(authorizer.authorize("PLAY", "u")).toContain("nc=00000002");
    expect(authorizer.authorize("PLAY", "u")).toContain("algorithm=SHA-256-sess");
  });
});
