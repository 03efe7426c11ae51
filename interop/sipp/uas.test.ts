import { join } from "node:path";
import { expect, it } from "vitest";
import { createToneSource } from "../../src/node/index.js";
import { describePeer } from "../peers.js";
import type { Finishing, RunningProcess } from "../process.js";
import { expectMatch, expectNoMatch, PAUSE, receiveRequest, response, type Step, startSipp } from "./scenario.js";
import { createOracle, octetsOf, startSubject } from "./support.js";

const SDP = "application/sdp";
const MIKEY = "application/mikey";
const KEYED = expectMatch("a=key-mgmt:mikey [A-Za-z0-9+/=]+");
const INVITE = /^INVITE /;
/** Each of these suites takes ports of its own. */
let nextPort = 25_100 + (process.pid % 400) * 20;

/** A user agent of ours, the keys of sipp, and where sipp will be. */
async function prepare(test: Finishing) {
  const port = nextPort++;
  const target = `sip:sipp@127.0.0.1:${port}`;
  const subject = await startSubject(test);
  const oracle = createOracle(test, subject, { uri: target });
  return {
    subject,
    oracle,
    call: () => subject.agent.call(target, { source: createToneSource() }),
    answerWith: (steps: readonly Step[]) => startSipp(test, oracle.folder, { steps, port }),
  };
}

async function expectSuccess(sipp: RunningProcess): Promise<void> {
  const result = await sipp.ended;
  expect(result.code, `${result.stderr}\n${result.stdout.slice(-2000)}`).toBe(0);
}

describePeer("sipp", "is called by us [called by our user agent]", () => {
  it.concurrent("answers, and acknowledges the end with its own proof", async (test) => {
    const { subject, oracle, call, answerWith } = await prepare(test);
    const dialog = oracle.dialog();
    const files = { answer: join(oracle.folder, "answer"), proof: join(oracle.folder, "proof") };
    const sipp = answerWith([
      receiveRequest("INVITE", [KEYED]),
      response("180 Ringing", "t"),
      PAUSE,
      response("200 OK", "t", { type: SDP, file: files.answer }, [], true),
      receiveRequest("ACK"),
      receiveRequest("BYE", [expectMatch("Content-Type: *application/mikey")]),
      PAUSE,
      response("200 OK", undefined, { type: MIKEY, file: files.proof }),
    ]);
    const calling = call();
    await dialog.acceptOffer(await subject.description(INVITE));
    oracle.write("answer", await dialog.createAnswer(oracle.plain));
    const placed = await calling;
    expect(placed.keys?.fingerprint).toBe(dialog.media[0]?.fingerprint);
    const ending = placed.hangUp();
    const { verdict, body } = dialog.acceptEnd({ contentType: MIKEY, content: await subject.description(/^BYE /) });
    expect(verdict).toBe("verified");
    oracle.write("proof", octetsOf(body));
    expect(await ending).toMatchObject({ by: "local", proof: "verified" });
    await expectSuccess(sipp);
  });

  it.concurrent("asks for credentials first, and gets the same key message again", async (test) => {
    const { subject, oracle, call, answerWith } = await prepare(test);
    const dialog = oracle.dialog();
    const challenge = 'Proxy-Authenticate: Digest realm="interop.test", nonce="0123456789abcdef", algorithm=MD5, qop="auth"';
    const sipp = answerWith([
      receiveRequest("INVITE", [KEYED]),
      response("407 Proxy Authentication Required", "c", undefined, [challenge], true),
      receiveRequest("ACK"),
      receiveRequest("INVITE", [KEYED, expectMatch("Proxy-Authorization: Digest .*response=")]),
      PAUSE,
      response("200 OK", "t", { type: SDP, file: join(oracle.folder, "answer") }, [], true),
      receiveRequest("ACK"),
      receiveRequest("BYE"),
      response("200 OK", undefined),
    ]);
    const calling = call();
    const offer = await subject.description(/^INVITE [\s\S]*Proxy-Authorization/);
    expect(subject.sent.filter((message) => INVITE.test(message)).map((message) => message.split("\r\n\r\n")[1])).toEqual([
      offer,
      offer,
    ]);
    await dialog.acceptOffer(offer);
    oracle.write("answer", await dialog.createAnswer(oracle.plain));
    const placed = await calling;
    expect(await placed.hangUp()).toMatchObject({ by: "local", proof: "absent" });
    await expectSuccess(sipp);
  });

  it.concurrent("rings in two places, of which one answers", async (test) => {
    const { subject, oracle, call, answerWith } = await prepare(test);
    const [first, second] = [oracle.dialog(), oracle.dialog()];
    const files = { first: join(oracle.folder, "first"), second: join(oracle.folder, "second") };
    const sipp = answerWith([
      receiveRequest("INVITE", [KEYED]),
      PAUSE,
      response("183 Session Progress", "one", { type: SDP, file: files.first }),
      response("183 Session Progress", "two", { type: SDP, file: files.second }),
      response("200 OK", "two", { type: SDP, file: files.second }, [], true),
      receiveRequest("ACK"),
      receiveRequest("BYE"),
      response("200 OK", undefined),
    ]);
    const calling = call();
    const offer = await subject.description(INVITE);
    for (const [name, dialog] of [
      ["first", first],
      ["second", second],
    ] as const) {
      await dialog.acceptOffer(offer);
      oracle.write(name, await dialog.createAnswer(oracle.plain));
    }
    const placed = await calling;
    expect(placed.keys?.fingerprint).toBe(second.media[0]?.fingerprint);
    await placed.hangUp();
    await expectSuccess(sipp);
  });

  it.concurrent("does not know what a BYE with a body is, and gets one without", async (test) => {
    const { subject, oracle, call, answerWith } = await prepare(test);
    const dialog = oracle.dialog();
    const sipp = answerWith([
      receiveRequest("INVITE", [KEYED]),
      PAUSE,
      response("200 OK", "t", { type: SDP, file: join(oracle.folder, "answer") }, [], true),
      receiveRequest("ACK"),
      receiveRequest("BYE", [expectMatch("Content-Type: *application/mikey")]),
      response("415 Unsupported Media Type", undefined),
      receiveRequest("BYE", [expectMatch("Content-Length: *0"), expectNoMatch("application/mikey")]),
      response("200 OK", undefined),
    ]);
    const calling = call();
    await dialog.acceptOffer(await subject.description(INVITE));
    oracle.write("answer", await dialog.createAnswer(oracle.plain));
    const placed = await calling;
    expect(await placed.hangUp()).toMatchObject({ by: "local", proof: "absent" });
    await expectSuccess(sipp);
  });

  it.concurrent("refuses new keys with 488 and Warning 306, upon which we hang up, with a proof", async (test) => {
    const { subject, oracle, call, answerWith } = await prepare(test);
    const dialog = oracle.dialog();
    const files = { answer: join(oracle.folder, "answer"), proof: join(oracle.folder, "proof") };
    const sipp = answerWith([
      receiveRequest("INVITE", [KEYED]),
      PAUSE,
      response("200 OK", "t", { type: SDP, file: files.answer }, [], true),
      receiveRequest("ACK"),
      receiveRequest("INVITE", [KEYED]),
      response("488 Not Acceptable Here", undefined, undefined, ['Warning: 306 sipp "Attribute not understood"'], true),
      receiveRequest("ACK"),
      receiveRequest("BYE", [expectMatch("Reason: *SIP;cause=488"), expectMatch("Content-Type: *application/mikey")]),
      PAUSE,
      response("200 OK", undefined, { type: MIKEY, file: files.proof }),
    ]);
    const calling = call();
    await dialog.acceptOffer(await subject.description(INVITE));
    oracle.write("answer", await dialog.createAnswer(oracle.plain));
    const placed = await calling;
    await expect(placed.rekey()).rejects.toMatchObject({ code: "node.sip-status-488" });
    const { verdict, body } = dialog.acceptEnd({ contentType: MIKEY, content: await subject.description(/^BYE /) });
    expect(verdict).toBe("verified");
    oracle.write("proof", octetsOf(body));
    expect(await placed.ended).toMatchObject({ by: "failure", proof: "verified" });
    await expectSuccess(sipp);
  });

  it.concurrent.for([
    { name: "plain RTP", answer: (plain: string) => plain },
    {
      name: "a=crypto alone",
      answer: (plain: string) =>
        `${plain.replace("RTP/AVP", "RTP/SAVP")}a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n`,
    },
  ])("answers with $name, and the call is given up", async ({ answer }, test) => {
    const { subject, oracle, call, answerWith } = await prepare(test);
    const file = oracle.write("answer", answer(oracle.plain));
    const sipp = answerWith([
      receiveRequest("INVITE", [KEYED]),
      response("200 OK", "t", { type: SDP, file }, [], true),
      receiveRequest("ACK"),
      receiveRequest("BYE", [expectMatch("Reason: *SIP *;cause=488")]),
      response("200 OK", undefined),
    ]);
    await expect(call()).rejects.toMatchObject({ code: expect.stringMatching(/^sip\./) });
    await expectSuccess(sipp);
    expect(subject.agent.calls).toEqual([]);
  });
});
