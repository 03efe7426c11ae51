import { describe, expect, it } from "vitest";
import { utf8, utf8Text } from "../../src/bytes/index.js";
import { type CertificateVerifier, certificatesOf } from "../../src/crypto/index.js";
import { createCertificateVerifier, issueCertificate } from "../../src/crypto/x509/index.js";
import { createMediaKeying, type MediaKeyingOptions, type MediaOffer } from "../../src/gsa/index.js";
import type { SimulatedNetwork } from "../../src/io/index.js";
import { DataType, decodeMessage, type MikeyPolicy, MODES } from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { peerPolicy, peerProfile } from "../../src/peers/index.js";
import {
  type ClientKeying,
  createAutoClientKeying,
  createMikeyClientKeying,
  createMikeyServerKeying,
  type MeantCredential,
  type ServerKeying,
} from "../../src/rtsp/index.js";
import type { SuiteName } from "../../src/srtp/index.js";
import { inspectText } from "../../src/tools/index.js";
import { busyCrypto } from "../mikey/busy-crypto.js";
import { PSK } from "../mikey/exchange-fixture.js";
import { ALICE, BOB, caseNamed, credentialOf, MODE_CASES, type ModeCase, partyOf } from "../mikey/mode-fixture.js";
import { AES80, playing } from "./keyed-support.js";
import { createSetting, H264, PCMU, payloads, type Setting } from "./support.js";

const { crypto, idle } = busyCrypto(nodeCrypto);
const STRICT = peerProfile("strict");
const POLICY = peerPolicy(STRICT, AES80);
const rows = MODE_CASES.map((row) => [row.title, row] as const);

function media(network: SimulatedNetwork, row: ModeCase, side: 0 | 1, more: Partial<MediaKeyingOptions> = {}) {
  return createMediaKeying({
    clock: network.clock,
    timers: network.timers,
    crypto,
    dialect: STRICT,
    identity: side === 0 ? ALICE : BOB,
    findCredential: () => ({ psk: PSK }),
    requirePsk: true,
    ...partyOf(crypto, row, side),
    ...more,
  });
}

function serverKeying(
  network: SimulatedNetwork,
  row: ModeCase,
  meant: MeantCredential | undefined,
  more: Partial<MediaKeyingOptions> = {},
): ServerKeying {
  return createMikeyServerKeying({
    keying: media(network, row, 1, more),
    policy: POLICY,
    level: "session",
    credentialFor: () => meant,
  });
}

function clientKeying(network: SimulatedNetwork, row: ModeCase, more: Partial<MediaKeyingOptions> = {}): ClientKeying {
  return createMikeyClientKeying({
    keying: media(network, row, 0, more),
    scope: "viewer",
    profile: STRICT,
    preferPsk: true,
    initiate: { credential: credentialOf(crypto, row), policy: POLICY, responderId: BOB },
  });
}

/** Bob serves, and offers in the description where he is told to. */
function setting(row: ModeCase, offers: boolean, more: Partial<MediaKeyingOptions> = {}): Setting & { readonly said: string[] } {
  const said: string[] = [];
  // Whom the server offers to is left open where the mode allows it.
  const named = MODES[row.mode].credential === "psk" || row.mode === "PK";
  const meant = { credential: credentialOf(crypto, row, 1), ...(named ? { responderId: ALICE } : {}) };
  const made = createSetting((network) => ({
    idle,
    tracks: [PCMU, H264],
    presentation: { profile: "RTP/SAVP", keying: serverKeying(network, row, offers ? meant : undefined, more), announce: true },
  }));
  made.network.onTraffic = ({ kind, octets }) => {
    if (kind !== "datagram") said.push(utf8Text(octets) ?? "");
  };
  return Object.assign(made, { said });
}

/** Media flows, is rekeyed by updates of the mode, and ends with a proof. */
async function plays(scene: ReturnType<typeof setting>, row: ModeCase, by: "server" | "client", version: "1.0" | "2.0" = "1.0") {
  const { network, server, source } = scene;
  const options = { keying: clientKeying(network, row), version, mediaTimeout: 0 };
  const player = await playing(scene, options, "udp", [0, 1]);
  const keyedBy = row.mode.toLowerCase();
  const sent: string[] = [];
  const fingerprints = new Set<string | undefined>();
  for (let count = 0; count < 30; count++) {
    if (count % 10 === 5) {
      scene.said.length = 0;
      const rekeyed = scene.run(by === "client" ? player.rekey() : server.rekey(server.sessions[0]?.id ?? ""), 1);
      source.rtp(0, utf8(`during ${count}`));
      sent.push(`during ${count}`);
      expect(await rekeyed).toBe(by === "server" ? 1 : 2);
      checkUpdate(scene.said, row);
    }
    source.rtp(count % 2, utf8(`${count}`));
    sent.push(`${count}`);
    await network.advance(50);
    fingerprints.add(player.statistics[0]?.fingerprint);
  }
  expect(payloads(player.received).toSorted()).toEqual(sent.toSorted());
  expect(fingerprints.size).toBe(4);
  expect(player.statistics).toMatchObject([{ keyedBy }, { keyedBy }]);
  expect(server.sessions[0]?.tracks).toMatchObject([
    { keyedBy, fingerprint: player.statistics[0]?.fingerprint, authenticationFailures: 0 },
    { keyedBy, authenticationFailures: 0 },
  ]);
  // The old keys are forgotten; reports go both ways under the new ones.
  await network.advance(40_000);
  source.rtp(0, utf8("late"));
  source.report(0);
  await network.advance(20);
  expect(payloads(player.received)).toContain("late");
  expect(server.sessions[0]?.tracks[0]).toMatchObject({ authenticationFailures: 0, reports: expect.any(Number) });
  expect(await scene.run(player.teardown())).toBe("verified");
  expect(scene.events.at(-1)).toMatchObject({ type: "ended", proof: "verified" });
  return player;
}

/** A rekey is a CSB update as the mode has it: under a cached envelope key a pre-shared key message (RFC 3830 §4.5). */
function checkUpdate(said: readonly string[], row: ModeCase): void {
  const request = said.find((text) => text.startsWith("SET_PARAMETER"));
  const [found] = inspectText(request ?? "");
  const { header, payloads: parts } = decodeMessage(Uint8Array.from(Buffer.from(found?.octets ?? "", "hex")));
  const cached = MODES[row.mode].envelope && row.policy?.cacheEnvelopeKeys !== false;
  expect(header.dataType).toBe(cached ? DataType.PSK_INIT : MODES[row.mode].requestType);
  expect(parts.some(({ kind }) => kind === "RAND")).toBe(false);
}

describe.each(rows)("%s", (_title, row) => {
  it.skipIf(row.hello === true)("the server offers in its description, one exchange for all streams", async () => {
    const scene = setting(row, true);
    await plays(scene, row, "server");
  });

  it("what a client or the server sent does not key its sender when it comes back", async () => {
    const { network } = setting(row, false);
    const peer = { remote: { host: "192.0.2.9", port: 5 }, secure: false };
    const streams = [{ index: 0, ssrc: 1 }];
    const request = { streams, peer, announced: row.hello === true, protocols: ["mikey"] };
    const client = clientKeying(network, row);
    const begun = (await client.initiate?.(request)) as MediaOffer;
    await expect(client.answer(begun.octets, request)).rejects.toMatchObject({ code: "mikey.authentication" });
    if (row.hello === true) return;
    const named = MODES[row.mode].credential === "psk" || row.mode === "PK";
    const meant = { credential: credentialOf(crypto, row, 1), ...(named ? { responderId: ALICE } : {}) };
    const server = serverKeying(network, row, meant);
    const stream = { index: 0, ssrc: 1 };
    const offered = (await server.offer(stream, peer)) as MediaOffer;
    await expect(server.accept(undefined, offered.octets, stream, peer, "back")).rejects.toMatchObject({
      code: "mikey.authentication",
    });
  });

  it("the client begins in SETUP, stream by stream", async () => {
    await plays(setting(row, false), row, "client");
  });

  it("the client begins in the Transport header of RTSP 2.0 (RFC 7826 appendix C.1.4.1)", async () => {
    const scene = setting(row, false);
    const setups: string[] = [];
    const { onTraffic } = scene.network;
    scene.network.onTraffic = (traffic) => {
      const text = traffic.kind === "datagram" ? "" : (utf8Text(traffic.octets) ?? "");
      if (text.startsWith("SETUP")) setups.push(text);
      onTraffic?.(traffic);
    };
    await plays(scene, row, "client", "2.0");
    expect(setups).toHaveLength(2);
    for (const text of setups) {
      expect(text).toMatch(/^SETUP \S+ RTSP\/2\.0\r\n/);
      expect(text).not.toContain("KeyMgmt");
      const [message] = inspectText(text);
      expect(message?.where).toContain("Transport MIKEY");
      const { header, payloads: parts } = decodeMessage(Uint8Array.from(Buffer.from(message?.octets ?? "", "hex")));
      expect(header.dataType).toBe(MODES[row.mode].requestType);
      expect(parts.some(({ kind }) => kind === "CERT")).toBe(row.keys !== undefined);
    }
  });
});

describe("a client whose first offer is refused", () => {
  const psk = caseNamed("PSK");
  const x25519 = caseNamed("DHHMAC over X25519");
  const groups = ["x25519", "modp1536"] as const;
  const either: ModeCase = { ...x25519, policy: { ...x25519.policy, groups } };
  const [GCM_256, GCM] = ["AEAD_AES_256_GCM", "AEAD_AES_128_GCM"] as const;

  /** How often SETUP came, and what the client played under. */
  async function outcome(row: ModeCase, theirs: MikeyPolicy, version: "1.0" | "2.0", make = clientKeying) {
    const scene = setting(row, false, { policy: { ...partyOf(crypto, row, 1).policy, ...theirs } });
    const player = playing(scene, { keying: make(scene.network, row), version, mediaTimeout: 0 }, "udp", [0, 1]);
    const failed = await player.then(
      () => undefined,
      ({ code }: { code: string }) => code,
    );
    const setups = scene.said.filter((text) => text.startsWith("SETUP")).length;
    if (failed !== undefined) return { setups, failed };
    const { received, statistics } = await player;
    scene.source.rtp(1, utf8("after all"));
    await scene.network.advance(20);
    expect(payloads(received)).toEqual(["after all"]);
    return { setups, suites: statistics.map(({ suite }) => suite) };
  }

  it.each(["1.0", "2.0"] as const)("has one without numbers of our own over RTSP %s, where policy has others", async (version) => {
    const theirs = { groups: ["modp1536"] } as const;
    expect(await outcome(either, theirs, version)).toEqual({ setups: 3, suites: [AES80, AES80] });
    const failed = `rtsp.status-${version === "1.0" ? 463 : 466}`;
    expect(await outcome(x25519, theirs, version)).toEqual({ setups: 1, failed });
    const strict = { ...either, policy: { ...either.policy, fallback: false } };
    expect(await outcome(strict, theirs, version)).toEqual({ setups: 1, failed });
    expect(await outcome(either, { groups, modes: ["PSK"] }, version), "twice, and no more").toEqual({ setups: 2, failed });
  });

  it.each(["1.0", "2.0"] as const)("proposes what the server names over RTSP %s, where our policy lists it", async (version) => {
    const listing = (...suites: SuiteName[]): ModeCase => ({ ...psk, policy: { suites } });
    expect(await outcome(listing(AES80, GCM_256, GCM), { suites: [GCM] }, version)).toEqual({ setups: 3, suites: [GCM, GCM] });
    const failed = `rtsp.status-${version === "1.0" ? 463 : 466}`;
    expect(await outcome(listing(AES80, GCM_256), { suites: [GCM] }, version)).toEqual({ setups: 1, failed });
    expect(await outcome(listing(GCM, AES80), { suites: [GCM] }, version), "not up the list").toEqual({ setups: 1, failed });
  });

  it("does so too where it finds out what kind of server it is", async () => {
    const auto = (network: SimulatedNetwork, row: ModeCase): ClientKeying =>
      createAutoClientKeying({
        keyingFor: () => media(network, row, 0),
        scope: "viewer",
        credential: credentialOf(crypto, row),
        responderId: BOB,
        suite: AES80,
      });
    expect(await outcome(either, { groups: ["modp1536"] }, "1.0", auto)).toEqual({ setups: 3, suites: [AES80, AES80] });
  });
});

describe("who is not who it should be gets no media, and no other keys instead", () => {
  const [dh, rsaR, pk] = ["DH", "RSA-R, envelope key cached", "PK, envelope key cached"].map(caseNamed) as [
    ModeCase,
    ModeCase,
    ModeCase,
  ];
  const good = partyOf(crypto, dh, 0).policy.certificates as CertificateVerifier;
  const DAY = 86_400_000;

  /** A root that nobody here knows. */
  async function otherRoot(): Promise<CertificateVerifier> {
    const { pkcs8 } = await nodeCrypto.generateKeyPair("ec-p256");
    const signer = nodeCrypto.importPrivateKey(pkcs8);
    const validity = { notBefore: 0, notAfter: 100_000 * DAY };
    const root = await issueCertificate({
      commonName: "other",
      publicKey: signer.publicKey,
      issuer: signer,
      authority: {},
      ...validity,
    });
    return createCertificateVerifier({ roots: [root], crypto });
  }

  const later: CertificateVerifier = {
    verify: (chain, requirements) => good.verify(chain, { ...requirements, now: requirements.now + 100_000 * DAY }),
  };
  const STRANGERS: readonly (readonly [string, () => CertificateVerifier | Promise<CertificateVerifier>])[] = [
    ["of another root", otherRoot],
    ["that has expired", () => later],
    ["for another name", () => certificatesOf(good, ["sip:carol@example.org", "rtsp://elsewhere.example.org/"])],
  ];

  /** What the server says, and that nothing of media was set up. */
  async function refused(scene: ReturnType<typeof setting>, keying: ClientKeying, version: "1.0" | "2.0", code: string) {
    await expect(playing(scene, { keying, version }, "udp", [0])).rejects.toMatchObject({ code });
    expect(scene.server.sessions).toEqual([]);
    expect(scene.said.some((text) => text.startsWith("PLAY"))).toBe(false);
  }

  describe.each(STRANGERS)("a certificate %s", (_what, judge) => {
    it.each([
      ["1.0", "rtsp.status-463"],
      ["2.0", "rtsp.status-466"],
    ] as const)("of a client that begins over RTSP %s: the server refuses", async (version, code) => {
      for (const row of [dh, rsaR, pk]) {
        const scene = setting(row, false, { policy: { certificates: await judge() } });
        await refused(scene, clientKeying(scene.network, row), version, code);
        const refusal = scene.said.find((text) => /^RTSP\/[12]\.0 46[36]/.test(text)) ?? "";
        // One error for every cause (RFC 3830 §6.12).
        const [error] = inspectText(refusal);
        expect(error?.message?.header).toMatchObject({ dataTypeName: "ERROR" });
        expect(error?.message?.payloads).toContainEqual(expect.objectContaining({ kind: "ERR", errorNo: 0 }));
        expect(refusal).not.toMatch(/expired|root|trust|name/i);
      }
    });

    it("of a server that offers: the client does not answer", async () => {
      for (const row of [dh, rsaR, pk]) {
        const scene = setting(row, true);
        const keying = clientKeying(scene.network, row, { policy: { certificates: await judge() } });
        await refused(scene, keying, "1.0", "mikey.authentication");
        expect(scene.said.some((text) => text.startsWith("SETUP"))).toBe(false);
      }
    });

    it("of a server that answers: the client plays nothing", async () => {
      for (const row of [dh, rsaR]) {
        const scene = setting(row, false);
        const keying = clientKeying(scene.network, row, { policy: { certificates: await judge() } });
        await expect(playing(scene, { keying }, "udp", [0])).rejects.toMatchObject({ code: "mikey.authentication" });
        scene.source.rtp(0, utf8("x"));
        expect(scene.said.some((text) => text.startsWith("PLAY"))).toBe(false);
      }
    });
  });

  it("a mode that the policy does not have is refused: a pre-shared key in place of key pairs is a downgrade", async () => {
    const psk = caseNamed("PSK");
    const only = { policy: { ...partyOf(crypto, dh, 1).policy, modes: ["DH"] as const } };
    const begun = setting(psk, false, only);
    await refused(begun, clientKeying(begun.network, psk), "1.0", "rtsp.status-463");
    const offered = setting(psk, true);
    const keying = clientKeying(offered.network, psk, { policy: { ...partyOf(crypto, dh, 0).policy, modes: ["DH"] } });
    await refused(offered, keying, "1.0", "mikey.data-type");
  });

  it("a client without keys, or with NULL-keyed ones, is refused", async () => {
    const scene = setting(dh, false);
    const open = createMikeyClientKeying({
      keying: media(scene.network, dh, 0, { requirePsk: false, allowNullKeying: true }),
      scope: "viewer",
      profile: STRICT,
      initiate: { policy: POLICY },
    });
    await refused(scene, open, "1.0", "rtsp.status-463");
  });

  it("the key of a multicast stream is told in PK, and in modes that agree on keys the description is refused", async () => {
    for (const [row, status] of [
      [pk, undefined],
      [dh, "rtsp.status-403"],
    ] as const) {
      const scene = createSetting((network) => ({
        idle,
        presentation: {
          profile: "RTP/SAVP",
          multicast: { group: "239.1.2.3", port: 5004 },
          keying: serverKeying(network, row, { credential: credentialOf(crypto, row, 1), responderId: ALICE }),
        },
      }));
      const player = playing(scene, { keying: clientKeying(scene.network, row) }, "multicast");
      if (status !== undefined) {
        await expect(player).rejects.toMatchObject({ code: status });
        continue;
      }
      const { received } = await player;
      await scene.network.advance(10);
      scene.source.rtp(0, utf8("to all"));
      await scene.network.advance(10);
      expect(payloads(received)).toEqual(["to all"]);
    }
  });
});
