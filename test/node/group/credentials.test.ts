import { describe, expect, it } from "vitest";
import { defaultCrypto } from "../../../src/crypto/index.js";
import type { GcksServiceOptions } from "../../../src/node/group/index.js";
import { credentialOf, MODE_CASES, type ModeCase, partyOf, ROOT } from "../../mikey/mode-fixture.js";
import { makeSelfSigned } from "../self-signed.js";
import { createParty, definitionOn, localhost, type TestMember, until } from "./support.js";

/** The parties of the vectors. */
const MEMBER = "sip:alice@example.org";
const KEY_SERVER = "sip:bob@example.org";

const ROWS = MODE_CASES.filter(({ title }) =>
  [
    "PSK",
    "PK, envelope key cached",
    "DH",
    "DH over X25519, signed with Ed25519",
    "DHHMAC",
    "RSA-R, envelope key cached",
    "RSA-R signed with ECDSA",
  ].includes(title),
);
const rowOf = (title: string): ModeCase => ROWS.find((row) => row.title === title) as ModeCase;

const rootFingerprint = (): Uint8Array => defaultCrypto.hash("sha256", ROOT);

describe("members that register by every mode", () => {
  const party = createParty();

  const serve = async (row: ModeCase, options: Partial<GcksServiceOptions> & Pick<GcksServiceOptions, "groups">) => {
    const { keyPairs, policy } = partyOf(defaultCrypto, row, 1);
    const { psk } = credentialOf(defaultCrypto, rowOf("PSK")) as { psk: Uint8Array };
    return party.serve({
      identity: KEY_SERVER,
      keyPairs,
      policy: { ...policy, modes: [row.mode] },
      findCredential: () => ({ psk }),
      ...options,
    });
  };

  const joining = (row: ModeCase, uri: string, send = false): Promise<TestMember> =>
    party.joining(uri, "speaker", {
      identity: MEMBER,
      gcks: KEY_SERVER,
      credential: credentialOf(defaultCrypto, row),
      policy: partyOf(defaultCrypto, row, 0).policy,
      role: { send, receive: true },
      insecure: true,
    });

  it.each(ROWS.map((row, index) => [row.title, row, index] as const))(
    "%s: over SIP by UDP and TLS, RTSP and RTSPS; they hear, are rekeyed, and leave with a proof",
    async (_title, row, index) => {
      const tls = makeSelfSigned("127.0.0.1");
      const groups = [
        definitionOn(47_200 + 10 * index, { members: [{ identity: MEMBER, role: "both" }], membershipsPerIdentity: 4 }),
      ];
      const { service } = await serve(row, {
        groups,
        sip: [
          { transport: "udp", local: localhost() },
          { transport: "tls", local: localhost(), tls },
        ],
        rtsp: [{ local: localhost() }, { local: localhost(), tls }],
      });
      const [speaker, ...listeners] = await Promise.all(
        service.urisOf("blue").map((uri, carrier) => joining(row, uri, carrier === 0)),
      );
      expect(listeners).toHaveLength(3);
      let number = 0;
      const allHear = async (): Promise<void> => {
        const before = listeners.map(({ heard }) => heard.length);
        await until(() => {
          speaker?.speak(number++);
          return listeners.every(({ heard }, at) => heard.length > (before[at] ?? 0) + 3);
        });
      };
      await allHear();
      const mki = speaker?.joined.membership.streams[0]?.mki;
      await service.gcks.rekey("blue");
      await until(() => {
        speaker?.speak(number++);
        return speaker?.joined.membership.streams[0]?.mki !== mki;
      });
      await allHear();
      expect(await Promise.all(party.members.map(({ joined }) => joined.leave()))).toEqual(Array(4).fill("verified"));
      expect(service.gcks.members("blue")).toEqual([]);
    },
  );

  it("are let in by who issued their certificates, and by nothing else where a rule says so", async () => {
    const rules = (issuer: string) => ({ members: [{ identity: "*", issuer, role: "receiver" }] });
    const issuers = new Map([
      ["ours.pem", [rootFingerprint()]],
      ["theirs.pem", [new Uint8Array(32)]],
    ]);
    const groups = [definitionOn(47_300, rules("ours.pem")), definitionOn(47_310, { ...rules("theirs.pem"), name: "red" })];
    const dh = rowOf("DH");
    const psk = rowOf("PSK");
    const { service } = await serve(dh, {
      groups,
      issuers,
      policy: { ...partyOf(defaultCrypto, dh, 1).policy, modes: ["DH", "PSK"] },
    });
    const [sip = ""] = service.urisOf("blue");
    const [other = ""] = service.urisOf("red");
    expect((await joining(dh, sip)).joined.membership.state).toBe("in-step");
    await expect(joining(dh, other)).rejects.toMatchObject({ name: "MikeyPeerError" });
    // The same identity, proved by a key that nobody has certified.
    await expect(joining(psk, sip)).rejects.toMatchObject({ code: "member.refused" });
    expect(service.gcks.groups.map(({ members }) => members)).toEqual([1, 0]);
  });

  it("do not come in by a mode that the policy does not have", async () => {
    const { service, audit } = await serve(rowOf("DH"), {
      groups: [definitionOn(47_320, { members: [{ identity: MEMBER }] })],
    });
    const [sip = ""] = service.urisOf("blue");
    await expect(joining(rowOf("PSK"), sip)).rejects.toMatchObject({ name: "MikeyPeerError" });
    expect(audit.at(-1)).toMatchObject({ type: "refused", detail: { code: "mikey.data-type" } });
  });

  it("cannot be required of an authority that the key server does not know", async () => {
    const groups = [definitionOn(47_330, { members: [{ identity: "*", issuer: "theirs.pem" }] })];
    await expect(serve(rowOf("DH"), { groups })).rejects.toMatchObject({ code: "gcks.definition" });
  });
});
