import { describe, expect, it } from "vitest";
import { type CertificateVerifier, certificatesOf } from "../../src/crypto/index.js";
import { createCertificateVerifier, issueCertificate } from "../../src/crypto/x509/index.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import { DataType, MODES } from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { type CredentialSipKeyingOptions, createCredentialSipKeying } from "../../src/sip/index.js";
import { caseNamed, credentialOf, MODE_CASES, type ModeCase, partyOf } from "../mikey/mode-fixture.js";
import {
  ALICE,
  BOB,
  bothWays,
  type Call,
  carry,
  dialogs,
  exchange,
  messageIn,
  refusal,
  rtp,
  type Scene,
  sdpOf,
} from "./support.js";

const rows = MODE_CASES.map((row) => [row.title, row] as const);

function agents(row: ModeCase, options: Partial<CredentialSipKeyingOptions> = {}, bobs = options): Scene {
  const network = createSimulatedNetwork();
  const make = (side: 0 | 1, more: Partial<CredentialSipKeyingOptions>) => {
    const { keyPairs, policy } = partyOf(nodeCrypto, row, side);
    return createCredentialSipKeying({
      clock: network.clock,
      timers: network.timers,
      crypto: nodeCrypto,
      uri: side === 0 ? ALICE : BOB,
      credentials: { find: (uri) => (uri === (side === 0 ? BOB : ALICE) ? credentialOf(nodeCrypto, row, side) : undefined) },
      keyPairs,
      keyPolicy: policy,
      hello: row.hello === true ? "retry" : "never",
      ...more,
    });
  };
  return { network, alice: make(0, options), bob: make(1, bobs) };
}

function over({ caller, callee }: Call): void {
  const { verdict, body } = callee.acceptEnd(caller.end());
  expect([verdict, caller.acceptEndAnswer(body)]).toEqual(["verified", "verified"]);
}

describe.each(rows)("%s", (_title, row) => {
  const keyedBy = row.mode.toLowerCase();

  it("keys a call both ways, is rekeyed by updates of either party, and proves the end", async () => {
    const scene = agents(row, { proof: "always" });
    const call = dialogs(scene);
    const { offer } = await exchange(call.caller, call.callee);
    expect(messageIn(offer).header.dataType).toBe(MODES[row.mode].requestType);
    expect(call.caller.media[0]).toMatchObject({ keyedBy, peer: row.keys && { identities: [BOB] } });
    expect(call.callee.media[0]).toMatchObject({ keyedBy, peer: row.keys && { identities: [ALICE] } });
    call.caller.confirm();
    call.callee.confirm();
    bothWays(call, 1);
    const prints = new Set([call.caller.streams[0]?.fingerprint]);
    for (let round = 1; round <= 4; round++) {
      const [from, to] = round % 2 === 1 ? [call.caller, call.callee] : [call.callee, call.caller];
      const renewed = messageIn((await exchange(from, to)).offer);
      if (round === 1) {
        const cached = MODES[row.mode].envelope && row.policy?.cacheEnvelopeKeys !== false;
        expect(renewed.header.dataType, "a CSB update of the mode").toBe(cached ? DataType.PSK_INIT : MODES[row.mode].requestType);
        expect(renewed.payloads.some(({ kind }) => kind === "RAND")).toBe(false);
      }
      expect(call.caller.streams[0]?.fingerprint).toBe(call.callee.streams[0]?.fingerprint);
      prints.add(call.caller.streams[0]?.fingerprint);
      bothWays(call, round * 10);
      await scene.network.advance(40_000);
      bothWays(call, round * 10 + 1);
    }
    expect(prints.size).toBe(5);
    over(call);
  });
});

describe("a party that is not who it should be", () => {
  const [dh, rsaR, pk] = ["DH", "RSA-R, envelope key cached", "PK, envelope key cached"].map(caseNamed) as [
    ModeCase,
    ModeCase,
    ModeCase,
  ];
  const good = partyOf(nodeCrypto, dh, 0).policy.certificates as CertificateVerifier;
  const DAY = 86_400_000;

  async function otherRoot(): Promise<CertificateVerifier> {
    const signer = nodeCrypto.importPrivateKey((await nodeCrypto.generateKeyPair("ec-p256")).pkcs8);
    const validity = { notBefore: 0, notAfter: 100_000 * DAY };
    const root = { commonName: "other", publicKey: signer.publicKey, issuer: signer, authority: {}, ...validity };
    return createCertificateVerifier({ roots: [await issueCertificate(root)], crypto: nodeCrypto });
  }

  const later: CertificateVerifier = {
    verify: (chain, requirements) => good.verify(chain, { ...requirements, now: requirements.now + 100_000 * DAY }),
  };
  const STRANGERS: readonly (readonly [string, () => CertificateVerifier | Promise<CertificateVerifier>])[] = [
    ["of another root", otherRoot],
    ["that has expired", () => later],
    ["for another name", () => certificatesOf(good, ["sip:carol@example.org"])],
  ];

  it.each(STRANGERS)("a certificate %s: 488, all alike, and no media", async (_what, judge) => {
    for (const row of [dh, rsaR, pk]) {
      const scene = agents(row, {}, { keyPolicy: { certificates: await judge() } });
      const call = dialogs(scene);
      const refused = await refusal(call.callee.acceptOffer(await call.caller.createOffer(sdpOf())));
      expect(refused).toMatchObject({ status: 488, code: "mikey.authentication" });
      expect(refused.warnings.map(({ text }) => text).join()).not.toMatch(/expired|root|trust|name/i);
      expect([...call.caller.streams, ...call.callee.streams].flatMap((stream) => stream.protect(rtp(1, 1)) ?? [])).toEqual([]);
    }
    // The callee's, where it answers with one: the caller hangs up.
    for (const row of [dh, rsaR]) {
      const call = dialogs(agents(row, { keyPolicy: { certificates: await judge() } }, {}));
      await call.callee.acceptOffer(await call.caller.createOffer(sdpOf()));
      const answer = await call.callee.createAnswer(sdpOf());
      expect(await refusal(call.caller.acceptAnswer(answer))).toMatchObject({ code: "mikey.authentication" });
      expect(carry(call.caller, call.callee, rtp(1, 1))).toBeUndefined();
    }
  });

  it("a good certificate of somebody else in the name of the caller: 488", async () => {
    for (const row of [dh, rsaR, pk]) {
      const scene = agents(row);
      const call = dialogs(scene);
      const carol = scene.bob.dialog({ callId: "c", callerTag: "t", remote: "sip:carol@example.org" });
      const offer = await call.caller.createOffer(sdpOf());
      expect(await refusal(carol.acceptOffer(offer))).toMatchObject({ status: 488, code: "sip.identity" });
    }
  });

  it("a mode that the policy does not have: 488, no downgrade to a pre-shared key", async () => {
    const psk = caseNamed("PSK");
    const call = dialogs(agents(psk, {}, { keyPolicy: { ...partyOf(nodeCrypto, dh, 1).policy, modes: ["DH"] } }));
    const refused = await refusal(call.callee.acceptOffer(await call.caller.createOffer(sdpOf())));
    expect(refused).toMatchObject({ status: 488, code: "mikey.data-type" });
  });
});
