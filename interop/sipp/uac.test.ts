import { join } from "node:path";
import { expect, it } from "vitest";
import { spoiled } from "../../test/sip/support.js";
import { describePeer } from "../peers.js";
import type { Finishing, ProcessResult } from "../process.js";
import { until } from "../until.js";
import { expectMatch, expectNoMatch, PAUSE, receiveResponse, refusalAck, request, type Step, startSipp } from "./scenario.js";
import { createOracle, type Oracle, octetsOf, type Subject, startSubject } from "./support.js";

const SDP = "application/sdp";
const MIKEY = "application/mikey";
const OK = /^SIP\/2\.0 200 [\s\S]*CSeq: 1 INVITE/;
const KEYED = expectMatch("a=key-mgmt:mikey [A-Za-z0-9+/=]+");

function run(
  test: Finishing,
  subject: Subject,
  oracle: Oracle,
  steps: readonly Step[],
  args: readonly string[] = [],
  calls = 1,
): Promise<ProcessResult> {
  const remote = subject.agent.address;
  if (remote === undefined) throw new Error("no address");
  return startSipp(test, oracle.folder, { steps, remote, calls, args }).ended;
}

function expectSuccess(result: ProcessResult): void {
  expect(result.code, `${result.stderr}\n${result.stdout.slice(-2000)}`).toBe(0);
}

/** INVITE, 200, ACK. */
function setUp(subject: Subject, file: string): Step[] {
  return [
    request("INVITE", 1, subject.uri, { type: SDP, file }),
    receiveResponse(200, [KEYED], true),
    request("ACK", 1, subject.uri),
  ];
}

/** INVITE, 488 with a Warning, ACK. */
function refused(subject: Subject, file: string): Step[] {
  return [
    request("INVITE", 1, subject.uri, { type: SDP, file }),
    receiveResponse(488, [expectMatch("Warning: *399 ")]),
    refusalAck(subject.uri),
  ];
}

describePeer("sipp", "calls us [calls our user agent]", () => {
  it.concurrent.for([
    { body: "base64", encode: (octets: Uint8Array) => Buffer.from(octets).toString("base64") },
    { body: "binary", encode: (octets: Uint8Array) => octets },
  ])("and hangs up with a proof in $body", async ({ encode }, test) => {
    const subject = await startSubject(test);
    const oracle = createOracle(test, subject);
    const dialog = oracle.dialog();
    const offer = oracle.write("offer", await oracle.offer(dialog));
    const proof = join(oracle.folder, "proof");
    const bye = [
      request("BYE", 2, subject.uri, { type: MIKEY, file: proof }),
      receiveResponse(200, [expectMatch("Content-Type: *application/mikey")]),
    ];
    const running = run(test, subject, oracle, [...setUp(subject, offer), PAUSE, ...bye]);
    await dialog.acceptAnswer(await subject.description(OK));
    oracle.write("proof", encode(octetsOf(dialog.end())));
    expectSuccess(await running);
    await until("the end", () => subject.ends.length > 0);
    expect(subject.ends).toMatchObject([{ by: "remote", proof: "verified" }]);
    const answer = await subject.description(/^SIP\/2\.0 200 [\s\S]*CSeq: 2 BYE/);
    expect(dialog.acceptEndAnswer({ contentType: MIKEY, content: answer })).toBe("verified");
  });

  it.concurrent("and hangs up without a proof", async (test) => {
    const subject = await startSubject(test);
    const oracle = createOracle(test, subject);
    const offer = oracle.write("offer", await oracle.offer(oracle.dialog()));
    const bye = [request("BYE", 2, subject.uri), receiveResponse(200, [expectNoMatch("application/mikey")])];
    expectSuccess(await run(test, subject, oracle, [...setUp(subject, offer), ...bye]));
    await until("the end", () => subject.ends.length > 0);
    expect(subject.ends).toMatchObject([{ by: "remote", proof: "absent" }]);
  });

  it.concurrent("and hangs up with the proof of another dialog", async (test) => {
    const subject = await startSubject(test);
    const oracle = createOracle(test, subject);
    const [first, second] = [oracle.dialog(), oracle.dialog()];
    const proof = join(oracle.folder, "proof");
    const offers = [oracle.write("first", await oracle.offer(first)), oracle.write("second", await oracle.offer(second))] as const;
    // The first call stands while the second one is ended with what would end the first.
    const bye = [
      request("BYE", 2, subject.uri, { type: MIKEY, file: proof }),
      receiveResponse(200, [expectNoMatch("application/mikey")]),
    ];
    expectSuccess(await run(test, subject, oracle, setUp(subject, offers[0])));
    await first.acceptAnswer(await subject.description(OK));
    oracle.write("proof", octetsOf(first.end()));
    expectSuccess(await run(test, subject, oracle, [...setUp(subject, offers[1]), ...bye]));
    await until("the end", () => subject.ends.length > 0);
    expect(subject.ends).toMatchObject([{ by: "remote", proof: "rejected" }]);
    expect(subject.agent.calls.length).toBe(1);
  });

  it.concurrent("and hangs up with a proof from before the keys were replaced", async (test) => {
    const subject = await startSubject(test);
    const oracle = createOracle(test, subject);
    const dialog = oracle.dialog();
    const offer = oracle.write("offer", await oracle.offer(dialog));
    const [again, proof] = [join(oracle.folder, "again"), join(oracle.folder, "proof")];
    const rekey = [
      request("INVITE", 2, subject.uri, { type: SDP, file: again }),
      receiveResponse(200, [KEYED], true),
      request("ACK", 2, subject.uri),
    ];
    const bye = [
      request("BYE", 3, subject.uri, { type: MIKEY, file: proof }),
      receiveResponse(200, [expectNoMatch("application/mikey")]),
    ];
    const running = run(test, subject, oracle, [...setUp(subject, offer), PAUSE, ...rekey, ...bye]);
    await dialog.acceptAnswer(await subject.description(OK));
    oracle.write("proof", octetsOf(dialog.end()));
    oracle.write("again", await oracle.offer(dialog));
    expectSuccess(await running);
    await until("the end", () => subject.ends.length > 0);
    expect(subject.ends).toMatchObject([{ by: "remote", proof: "rejected" }]);
    expect(subject.calls[0]?.rekeys).toBe(1);
  });

  it.concurrent("and offers new keys that were damaged: 488 with Warning 306, and its BYE is proven", async (test) => {
    const subject = await startSubject(test);
    const oracle = createOracle(test, subject);
    const dialog = oracle.dialog();
    const offer = oracle.write("offer", await oracle.offer(dialog));
    const [again, proof] = [join(oracle.folder, "again"), join(oracle.folder, "proof")];
    const rekey = [
      request("INVITE", 2, subject.uri, { type: SDP, file: again }),
      receiveResponse(488, [expectMatch("Warning: *306 .*not understood"), KEYED]),
      refusalAck(subject.uri, 2),
    ];
    const bye = [
      request("BYE", 3, subject.uri, { type: MIKEY, file: proof }),
      receiveResponse(200, [expectMatch("Content-Type: *application/mikey")]),
    ];
    const running = run(test, subject, oracle, [...setUp(subject, offer), PAUSE, ...rekey, PAUSE, ...bye]);
    await dialog.acceptAnswer(await subject.description(OK));
    oracle.write("again", spoiled(await oracle.offer(dialog)));
    const refusal = await subject.description(/^SIP\/2\.0 488 /);
    expect(await dialog.refused(488, { contentType: SDP, content: refusal })).toMatchObject({ abort: true });
    oracle.write("proof", octetsOf(dialog.end()));
    expectSuccess(await running);
    await until("the end", () => subject.ends.length > 0);
    expect(subject.ends).toMatchObject([{ by: "remote", proof: "verified", error: { code: "mikey.authentication" } }]);
    expect(subject.calls[0]?.rekeys).toBe(0);
  });

  it.concurrent("and sends UPDATE, which sip.js does not take: the call stands", async (test) => {
    const subject = await startSubject(test);
    const oracle = createOracle(test, subject);
    const dialog = oracle.dialog();
    const offer = oracle.write("offer", await oracle.offer(dialog));
    const again = join(oracle.folder, "again");
    const update = [request("UPDATE", 2, subject.uri, { type: SDP, file: again }), receiveResponse(405)];
    const bye = [request("BYE", 3, subject.uri), receiveResponse(200)];
    const running = run(test, subject, oracle, [...setUp(subject, offer), PAUSE, ...update, ...bye]);
    await dialog.acceptAnswer(await subject.description(OK));
    oracle.write("again", await oracle.offer(dialog));
    expectSuccess(await running);
    await until("the end", () => subject.ends.length > 0);
    expect(subject.ends).toMatchObject([{ by: "remote", proof: "absent" }]);
    expect(subject.calls[0]?.rekeys).toBe(0);
  });

  it.concurrent("with keys under another pre-shared key, and is refused with 488 and a Warning", async (test) => {
    const subject = await startSubject(test);
    const oracle = createOracle(test, subject, { wrongKey: true });
    const offer = oracle.write("offer", await oracle.offer(oracle.dialog()));
    expectSuccess(await run(test, subject, oracle, refused(subject, offer)));
    await until("the refusal", () => subject.refusals.length > 0);
    expect(subject.refusals.map(({ code }) => code)).toEqual(["mikey.authentication"]);
    expect(subject.calls).toEqual([]);
  });

  it.concurrent("with the offer of an earlier call, and is refused", async (test) => {
    const subject = await startSubject(test);
    const oracle = createOracle(test, subject);
    const offer = oracle.write("offer", await oracle.offer(oracle.dialog()));
    const bye = [request("BYE", 2, subject.uri), receiveResponse(200)];
    expectSuccess(await run(test, subject, oracle, [...setUp(subject, offer), ...bye]));
    expectSuccess(await run(test, subject, oracle, refused(subject, offer)));
    await until("the refusal", () => subject.refusals.length > 0);
    expect(subject.refusals.map(({ code }) => code)).toEqual(["mikey.replay"]);
  });

  it.concurrent("without an offer, and answers ours in its ACK", async (test) => {
    const subject = await startSubject(test);
    const oracle = createOracle(test, subject);
    const dialog = oracle.dialog();
    const answer = join(oracle.folder, "answer");
    const steps = [
      request("INVITE", 1, subject.uri),
      receiveResponse(200, [KEYED], true),
      PAUSE,
      request("ACK", 1, subject.uri, { type: SDP, file: answer }),
      PAUSE,
      request("BYE", 2, subject.uri),
      receiveResponse(200),
    ];
    const running = run(test, subject, oracle, steps);
    await dialog.acceptOffer(await subject.description(OK));
    oracle.write("answer", await dialog.createAnswer(oracle.plain));
    expectSuccess(await running);
    await until("the end", () => subject.ends.length > 0);
    expect(subject.ends).toMatchObject([{ by: "remote", proof: "absent" }]);
    expect(subject.calls[0]?.keys).toMatchObject({ suite: "AES_CM_128_HMAC_SHA1_80", keyedBy: "psk" });
    expect(subject.calls[0]?.keys?.fingerprint).toBe(dialog.media[0]?.fingerprint);
  });

  // A call that loses its INVITE and then its BYE takes RFC 3261 timers of many seconds.
  it.concurrent("twelve times over a network that loses every tenth message", { timeout: 90_000 }, async (test) => {
    const calls = 12;
    const subject = await startSubject(test);
    const oracle = createOracle(test, subject);
    const files = [];
    for (let call = 0; call < calls; call++) files.push(oracle.write(`offer-${call}`, await oracle.offer(oracle.dialog())));
    const injected = oracle.write("offers.csv", `SEQUENTIAL\n${files.join("\n")}\n`);
    const bye = [request("BYE", 2, subject.uri), receiveResponse(200)];
    const lossy = ["-lost", "10", "-inf", injected, "-r", "4"];
    expectSuccess(await run(test, subject, oracle, [...setUp(subject, "[field0]"), ...bye], lossy, calls));
    await until("the end of all calls", () => subject.ends.length === calls, 40_000);
    expect(subject.calls.length).toBe(calls);
    expect(subject.refusals).toEqual([]);
  });
});
