import { afterEach, describe, expect, it } from "vitest";
import type { WatchwordError } from "../../src/bytes/index.js";
import { defaultCrypto } from "../../src/crypto/index.js";
import { readGroupDefinition } from "../../src/gcks/index.js";
import {
  decodeMessage,
  deriveMessageKeys,
  ErrorNo,
  encodeErrorMessage,
  MacAlg,
  type MikeyPeerError,
  payloadOf,
  peerErrorOf,
} from "../../src/mikey/index.js";
import { createRig, definition, PSK, type Rig, type RigMember } from "./rig.js";

let rig: Rig;
afterEach(() => rig.close());

const first = ({ member }: RigMember) => member.memberships[0] ?? expect.unreachable();

/** A member, and what it is told at its end. */
async function join(name: string): Promise<RigMember & { readonly refusals: WatchwordError[] }> {
  const refusals: WatchwordError[] = [];
  return { ...(await rig.join(name, { member: { onRefused: (error) => refusals.push(error) } })), refusals };
}

/** An ERR message as anybody can make one who sees the I_MESSAGE. */
function forgery(iMessage: Uint8Array, errorNo: number): Uint8Array {
  const message = decodeMessage(iMessage);
  const t = payloadOf(message, "T") ?? expect.unreachable();
  return encodeErrorMessage(defaultCrypto, message.header, t, errorNo);
}

/** Answers every registration with an ERR message. */
function refuse({ carrier }: RigMember, answer: (iMessage: Uint8Array) => Uint8Array): void {
  carrier.register = async (iMessage) => {
    carrier.sent.iMessages.push(iMessage.slice());
    throw peerErrorOf(answer(iMessage)) ?? expect.unreachable();
  };
}

describe("a refusal that the key server proves", () => {
  it("ends the membership of who was expelled: it has no keys any more, and asks no more", async () => {
    rig = await createRig();
    const speaker = await join("speaker1");
    const other = await join("listener1");
    await rig.settle(5000);
    await rig.gcks.expel("blue", "sip:speaker1@example.org");
    await rig.settle(20_000);
    expect(speaker.refusals).toMatchObject([
      {
        code: "member.refused",
        cause: { code: "mikey.peer-error", report: { errorNos: [ErrorNo.NOT_A_MEMBER], authenticated: true } },
      },
    ]);
    expect(first(speaker).state).toBe("idle");
    expect(speaker.states.at(-1)?.reason).toContain("NOT_A_MEMBER");
    expect(speaker.speak(1)).toBe(false);
    const { length } = speaker.carrier.sent.iMessages;
    await rig.settle(3_600_000);
    expect(speaker.carrier.sent.iMessages).toHaveLength(length);
    expect(speaker.refusals).toHaveLength(1);
    expect(first(other).state).toBe("in-step");
  });

  it("ends memberships in groups that the key server does not have any more", async () => {
    rig = await createRig();
    const listener = await join("listener1");
    await rig.settle(5000);
    await rig.restart({ groups: [readGroupDefinition(definition({ name: "red" }))] });
    await rig.settle(60_000);
    expect(listener.refusals).toMatchObject([{ cause: { report: { errorNos: [ErrorNo.UNKNOWN_GROUP] } } }]);
    expect(first(listener).state).toBe("idle");
  });
});

describe("a refusal that anybody could have sent", () => {
  it.each<[string, (iMessage: Uint8Array) => Uint8Array]>([
    ["without a proof", (iMessage) => forgery(iMessage, ErrorNo.NOT_A_MEMBER)],
    [
      "under another key",
      (iMessage) => {
        const message = decodeMessage(iMessage);
        const { header } = message;
        const rand = payloadOf(message, "RAND")?.rand ?? expect.unreachable();
        const keys = deriveMessageKeys(
          defaultCrypto,
          { prf: header.prf, csbId: header.csbId, rand },
          PSK.map((octet) => octet ^ 1),
          0,
          MacAlg.HMAC_SHA_256_256,
        );
        const t = payloadOf(message, "T") ?? expect.unreachable();
        return encodeErrorMessage(defaultCrypto, header, t, ErrorNo.NOT_A_MEMBER, { keys, macAlg: MacAlg.HMAC_SHA_256_256 });
      },
    ],
  ])("%s ends nothing: the member asks again, less and less often, and is in step when it is let in", async (_how, answer) => {
    rig = await createRig();
    const listener = await join("listener1");
    await rig.settle(5000);
    const { register } = listener.carrier;
    refuse(listener, answer);
    listener.carrier.session = undefined;
    listener.carrier.onLost?.();
    listener.member.receiveControl = () => undefined;
    await rig.settle(3_600_000);
    const tries = listener.carrier.sent.iMessages.length;
    await rig.settle(3_600_000);
    expect(first(listener).state).toBe("missing");
    expect(listener.refusals).toEqual([]);
    // 64 times five seconds, a quarter more or less.
    const more = listener.carrier.sent.iMessages.length - tries;
    expect(more).toBeGreaterThanOrEqual(9);
    expect(more).toBeLessThanOrEqual(15);
    listener.carrier.register = register;
    await rig.settle(600_000);
    expect(first(listener).state).not.toBe("idle");
    expect(rig.gcks.members("blue").map(({ identity }) => identity)).toContain("sip:listener1@example.org");
  });

  it("is proven for another registration: it ends nothing", async () => {
    rig = await createRig();
    const listener = await join("listener1");
    await rig.settle(5000);
    let recorded: Uint8Array = new Uint8Array(0);
    const { register } = listener.carrier;
    listener.carrier.register = (iMessage) =>
      register(iMessage).catch((error: MikeyPeerError) => {
        recorded = error.octets ?? recorded;
        throw error;
      });
    await rig.gcks.expel("blue", "sip:listener1@example.org");
    await rig.settle(10_000);
    expect(listener.refusals).toHaveLength(1);
    expect(recorded.length).toBeGreaterThan(0);
    await rig.gcks.readmit("blue", "sip:listener1@example.org");
    const again = await join("listener1");
    refuse(again, () => recorded);
    again.carrier.onLost?.();
    again.member.receiveControl = () => undefined;
    await rig.settle(60_000);
    expect(again.carrier.sent.iMessages.length).toBeGreaterThan(2);
    expect(again.refusals).toEqual([]);
  });

  it("follows from what the carrier says of who sent the message: the key server does not prove it", async () => {
    const unproven = { code: "mikey.peer-error", report: { errorNos: [ErrorNo.NOT_A_MEMBER], authenticated: false } };
    rig = await createRig({ definitions: [definition({ carrierIdentity: "same" })] });
    await expect(rig.join("listener1")).rejects.toMatchObject(unproven);
    await expect(rig.join("stranger")).rejects.toMatchObject({ code: "member.refused" });
    await rig.close();
    rig = await createRig({ gcks: { authorise: async () => false } });
    await expect(rig.join("listener1")).rejects.toMatchObject(unproven);
  });
});
