import { beforeAll, describe, expect, it } from "vitest";
import { defaultCrypto, formatPem, type PemBlock, type PrivateKey, parsePem } from "../../../src/crypto/index.js";
import { issueCertificate, issueRevocationList, readCertificate } from "../../../src/crypto/x509/index.js";
import type { JoinRequest } from "../../../src/gcks/index.js";
import type { GcksServiceOptions, JoinGroupOptions } from "../../../src/node/group/index.js";
import { makeSelfSigned } from "../self-signed.js";
import { createParty, definitionOn, localhost, startServer, type TestMember, until } from "./support.js";

/** Whom the carriers authenticate: by Digest, and by certificates of clients. */
const PASSWORDS: Readonly<Record<string, string>> = { listener: "secret", "other@example.org": "hidden" };
const password = (user: string): string | undefined => (Object.hasOwn(PASSWORDS, user) ? PASSWORDS[user] : undefined);
const KEY_SERVER = "sip:gcks@example.org";
const DAY = 86_400_000;

interface Shown {
  readonly cert: string;
  readonly key: string;
}

let clientCa: string;
/** Lists of the one authority: of nobody, of `other`, and one that has run out. */
let lists: Readonly<Record<"nobody" | "other" | "old", string>>;
let shownBy: Readonly<Record<"listener" | "other" | "stranger", Shown>>;

beforeAll(async () => {
  const validity = { notBefore: Date.now() - DAY, notAfter: Date.now() + DAY };
  const make = async (): Promise<{ readonly privateKey: PrivateKey; readonly pem: string }> => {
    const { pkcs8 } = await defaultCrypto.generateKeyPair("ec-p256");
    return { privateKey: defaultCrypto.importPrivateKey(pkcs8), pem: formatPem("PRIVATE KEY", pkcs8) };
  };
  const authority = async () => {
    const { privateKey } = await make();
    const content = { commonName: "authority", publicKey: privateKey.publicKey, issuer: privateKey, authority: {}, ...validity };
    return { signer: privateKey, certificate: await issueCertificate(content) };
  };
  const [ours, theirs] = [await authority(), await authority()];
  const show = async (name: string, issuer: typeof ours): Promise<Shown> => {
    const { privateKey, pem } = await make();
    const uris = [`sip:${name}@example.org`];
    const certificate = await issueCertificate({
      commonName: name,
      publicKey: privateKey.publicKey,
      issuer,
      uris,
      ...validity,
    });
    return { cert: formatPem("CERTIFICATE", certificate), key: pem };
  };
  clientCa = formatPem("CERTIFICATE", ours.certificate);
  const list = async (revoked: readonly Shown[], nextUpdate: number): Promise<string> => {
    const serials = revoked.map(({ cert }) => readCertificate((parsePem(cert)[0] as PemBlock).der).serial);
    const times = { thisUpdate: Date.now() - 2 * DAY, nextUpdate };
    return formatPem("X509 CRL", await issueRevocationList({ issuer: ours, revoked: serials, ...times }));
  };
  shownBy = {
    listener: await show("listener", ours),
    other: await show("other", ours),
    stranger: await show("listener", theirs),
  };
  lists = {
    nobody: await list([], Date.now() + DAY),
    other: await list([shownBy.other], Date.now() + DAY),
    old: await list([], Date.now() - DAY),
  };
});

describe("whom SIP and RTSP authenticate", () => {
  const party = createParty();
  let asked: JoinRequest[] = [];

  const serve = async (port: number, options: Partial<GcksServiceOptions>, changes: Record<string, unknown> = {}) => {
    asked = [];
    const { service } = await party.serve({
      identity: KEY_SERVER,
      groups: [definitionOn(port, changes, { address: undefined, resynchronisationDelay: 0.1 })],
      authorise: async (request) => {
        asked.push(request);
        return true;
      },
      ...options,
    });
    return service;
  };

  const joining = (uri: string, name: string, options: Partial<JoinGroupOptions> = {}): Promise<TestMember> =>
    party.joining(uri, name, { gcks: KEY_SERVER, insecure: true, ...options });

  const refused = async (uri: string, options: Partial<JoinGroupOptions>): Promise<unknown> => {
    const error: unknown = await joining(uri, "listener", options).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(error).toBeInstanceOf(Error);
    return error;
  };

  const carriers = [
    ["SIP by UDP and TCP", { sip: [{ transport: "udp", local: localhost(), password }], rtsp: [] }, "sip.refused"],
    ["RTSP", { sip: [], rtsp: [{ local: localhost(), password }] }, "rtsp.unauthorized"],
  ] as const satisfies readonly (readonly [string, Partial<GcksServiceOptions>, string])[];

  it.each(carriers)(
    "%s: is asked for a password, at the first registration and at every other",
    async (_carrier, options, code) => {
      const service = await serve(47_500, options, { carrierIdentity: "same" });
      const [uri = ""] = service.urisOf("blue");
      expect(await refused(uri, {})).toMatchObject({ code });
      expect(await refused(uri, { login: { user: "listener", password: "wrong" } })).toMatchObject({ code });
      expect(await refused(uri, { login: { user: "nobody", password: "secret" } })).toMatchObject({ code });
      // The wrong user, with the right key: no member, as anybody else who is none.
      expect(await refused(uri, { login: { user: "other@example.org", password: "hidden" } })).toMatchObject({
        name: "MikeyPeerError",
        message: expect.stringContaining("NOT_A_MEMBER"),
      });
      expect(asked).toEqual([]);
      const member = await joining(uri, "listener", { login: { user: "listener", password: "secret" } });
      const { membership } = member.joined;
      expect(membership.state).toBe("in-step");
      await service.gcks.restart("blue");
      await until(() => asked.length === 2 && membership.state === "in-step");
      expect(asked.map(({ user, identity }) => [user, identity])).toEqual(Array(2).fill(["listener", "sip:listener@example.org"]));
      expect(await member.joined.leave()).toBe("verified");
    },
  );

  it.each(carriers)("%s: a user may register as somebody else where the group leaves it open", async (_carrier, options) => {
    const service = await serve(47_520, options);
    const [uri = ""] = service.urisOf("blue");
    await joining(uri, "listener", { login: { user: "other@example.org", password: "hidden" } });
    expect(asked).toMatchObject([{ user: "other@example.org", identity: "sip:listener@example.org" }]);
  });

  it.each([
    ["SIP over TLS", "sip"],
    ["RTSPS", "rtsp"],
  ] as const)("%s: shows a certificate", async (_carrier, kind) => {
    const tls = { ...makeSelfSigned("127.0.0.1"), clientCa };
    const listeners = {
      sip: { sip: [{ transport: "tls" as const, local: localhost(), tls }], rtsp: [] },
      rtsp: { sip: [], rtsp: [{ local: localhost(), tls }] },
    };
    const service = await serve(47_540, listeners[kind], { carrierIdentity: "same" });
    const [uri = ""] = service.urisOf("blue");
    // TLS ends what nobody of ours vouches for: MIKEY is not reached.
    await refused(uri, {});
    await refused(uri, { clientCertificate: shownBy.stranger });
    expect(service.gcks.metrics.refusals).toBe(0);
    expect(await refused(uri, { clientCertificate: shownBy.other })).toMatchObject({
      name: "MikeyPeerError",
      message: expect.stringContaining("NOT_A_MEMBER"),
    });
    const member = await joining(uri, "listener", { clientCertificate: shownBy.listener });
    expect(asked.map(({ certified }) => certified)).toEqual([["sip:listener@example.org"]]);
    await service.gcks.restart("blue");
    await until(() => asked.length === 2 && member.joined.membership.state === "in-step");
    expect(await member.joined.leave()).toBe("verified");
  });

  it.each(["sip", "rtsp"] as const)(
    "%s over TLS: lets nobody in whose certificate was revoked, or of whom no list speaks",
    async (kind) => {
      const listening = (clientCrls: readonly string[]) => {
        const tls = { ...makeSelfSigned("127.0.0.1"), clientCa, clientCrls };
        return kind === "sip"
          ? { sip: [{ transport: "tls" as const, local: localhost(), tls }], rtsp: [] }
          : { sip: [], rtsp: [{ local: localhost(), tls }] };
      };
      for (const [crls, good] of [
        [[lists.nobody], true],
        [[lists.other], false],
        [[lists.old], false],
      ] as const) {
        const service = await serve(47_560, listening(crls));
        const [uri = ""] = service.urisOf("blue");
        const login = { clientCertificate: shownBy.other };
        if (good) expect((await joining(uri, "listener", login)).joined.membership.state).toBe("in-step");
        else await refused(uri, login);
        expect(service.gcks.metrics.refusals).toBe(0);
        for (const { joined } of party.members.splice(0)) await joined.close();
        await service.close();
      }
      const broken = startServer({ identity: KEY_SERVER, groups: [definitionOn(47_570)], ...listening(["no list"]) });
      await expect(broken).rejects.toMatchObject({ code: "node.tls-credentials" });
    },
  );
});
