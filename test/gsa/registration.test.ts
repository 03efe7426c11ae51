import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatHex, parseHex } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createRegistrationSa, type RegistrationFacts, type RegistrationSa } from "../../src/gsa/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";

type Vector = Record<
  | "name"
  | "iMessage"
  | "rMessage"
  | "secret"
  | "csbId"
  | "rand"
  | "t"
  | "idi"
  | "idr"
  | "nonceI"
  | "nonceR"
  | "spi"
  | "tek1"
  | "requestT"
  | "th"
  | "request"
  | "acknowledgement",
  string
> & { prfFunc: number; sender: "initiator" | "responder" };

const FILE = new URL("../vectors/deregistration.json", import.meta.url);
const { vectors } = JSON.parse(readFileSync(FILE, "utf8")) as { vectors: Vector[] };

function facts(vector: Vector, role: RegistrationFacts["role"]): RegistrationFacts {
  return {
    iMessage: parseHex(vector.iMessage),
    rMessage: parseHex(vector.rMessage),
    dataType: parseHex(vector.iMessage)[1] as number,
    csbId: Number.parseInt(vector.csbId, 16),
    prfFunc: vector.prfFunc,
    rand: parseHex(vector.rand),
    t: parseHex(vector.t),
    initiatorId: parseHex(vector.idi),
    responderId: parseHex(vector.idr),
    initiatorNonce: parseHex(vector.nonceI),
    responderNonce: parseHex(vector.nonceR),
    role,
  };
}

function pair(vector: Vector, crypto = nodeCrypto): { sender: RegistrationSa; receiver: RegistrationSa } {
  const make = (role: RegistrationFacts["role"]): RegistrationSa => {
    const sa = createRegistrationSa(crypto, facts(vector, role), parseHex(vector.secret));
    sa.hold(parseHex(vector.spi), parseHex(vector.tek1));
    return sa;
  };
  return vector.sender === "initiator"
    ? { sender: make("initiator"), receiver: make("responder") }
    : { sender: make("responder"), receiver: make("initiator") };
}

const first = vectors[0] as Vector;

describe.each([nobleCrypto, nodeCrypto])("de-registration vectors, $name", (crypto) => {
  it.each(vectors)("$name", (vector) => {
    const { sender, receiver } = pair(vector, crypto);
    expect(formatHex(sender.transcript)).toBe(vector.th);
    const request = sender.request(parseHex(vector.requestT));
    expect(formatHex(request)).toBe(vector.request);
    const { verdict, acknowledgement } = receiver.verifyRequest(request, 0);
    expect(verdict).toBe("verified");
    expect(formatHex(acknowledgement as Uint8Array)).toBe(vector.acknowledgement);
    expect(sender.verifyAcknowledgement(request, acknowledgement)).toBe("verified");
  });
});

describe("the vector file", () => {
  const python = spawnSync("python3", ["--version"]).status === 0;
  it.skipIf(!python)("is what the independent Python computation gives (python3 installed)", () => {
    const script = new URL("../vectors/deregistration.py", import.meta.url).pathname;
    execFileSync("python3", [script], { env: { ...process.env, CHECK: "1" } });
  });
});

describe("de-registration", () => {
  const later = parseHex("ec898db480000000");

  it("answers the same request with the same octets for 32 s, then no more", () => {
    const { sender, receiver } = pair(first);
    const request = sender.request(later);
    const { acknowledgement } = receiver.verifyRequest(request, 1_000);
    expect(receiver.verifyRequest(request, 32_999).acknowledgement).toEqual(acknowledgement);
  });

  it("works when the sender's clock is behind the Initiator's", () => {
    const { sender, receiver } = pair(first);
    const request = sender.request(parseHex("0000000000000001"));
    expect(receiver.verifyRequest(request, 0).verdict).toBe("verified");
  });

  it("refuses a T that is not above the registration's and its updates'", () => {
    const { sender, receiver } = pair(first);
    const request = sender.request(later);
    receiver.noteTimestamp(later);
    expect(receiver.verifyRequest(request, 0).verdict).toBe("rejected");
  });

  it("accepts the previous key while its overlap lasts, and not after", () => {
    const { sender, receiver } = pair(first);
    receiver.hold(parseHex("0000002b"), new Uint8Array(16).fill(7));
    expect(receiver.verifyRequest(sender.request(later), 0).verdict).toBe("verified");
    receiver.forget(parseHex(first.spi));
    expect(receiver.verifyRequest(sender.request(parseHex("ec898db580000000")), 0).verdict).toBe("rejected");
  });

  it("never forgets the newest key", () => {
    const { sender, receiver } = pair(first);
    receiver.forget(parseHex(first.spi));
    expect(receiver.verifyRequest(sender.request(later), 0).verdict).toBe("verified");
  });

  it("an acknowledgement proves nothing for another request, and a missing one is absent", () => {
    const { sender, receiver } = pair(first);
    const one = sender.request(later);
    const two = sender.request(later);
    expect(formatHex(one)).not.toBe(formatHex(two));
    const { acknowledgement } = receiver.verifyRequest(one, 0);
    expect(sender.verifyAcknowledgement(two, acknowledgement)).toBe("rejected");
    expect(sender.verifyAcknowledgement(one, undefined)).toBe("absent");
  });

  it("a request is not an acknowledgement, nor the other way round", () => {
    const { sender, receiver } = pair(first);
    const request = sender.request(later);
    expect(sender.verifyAcknowledgement(request, request)).toBe("rejected");
    const { acknowledgement } = receiver.verifyRequest(request, 0);
    expect(receiver.verifyRequest(acknowledgement as Uint8Array, 0).verdict).toBe("rejected");
  });

  it("a proof reflected to its sender is rejected", () => {
    const { sender } = pair(first);
    expect(sender.verifyRequest(sender.request(later), 0).verdict).toBe("rejected");
  });

  it("a proof of another exchange is rejected", () => {
    const { sender } = pair(first);
    const { receiver } = pair({ ...first, rMessage: `${first.rMessage}00` });
    expect(receiver.verifyRequest(sender.request(later), 0).verdict).toBe("rejected");
  });

  it("refuses a secret whose 256-bit blocks repeat", () => {
    expect(() => createRegistrationSa(nodeCrypto, facts(first, "initiator"), new Uint8Array(64).fill(9))).toThrowError(
      expect.objectContaining({ code: "mikey.repeating-key" }),
    );
  });

  it("every flipped bit and every truncation is rejected, never an exception", () => {
    const { sender, receiver } = pair(first);
    const request = sender.request(later);
    fc.assert(
      fc.property(fc.nat(request.length * 8 - 1), (bit) => {
        const damaged = request.slice();
        damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
        expect(receiver.verifyRequest(damaged, 0).verdict).toBe("rejected");
      }),
      { numRuns: 600 },
    );
    for (let length = 0; length < request.length; length++) {
      expect(receiver.verifyRequest(request.subarray(0, length), 0).verdict).toBe("rejected");
    }
  });

  it("any octets are rejected, never an exception", () => {
    const { receiver } = pair(first);
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (octets) => receiver.verifyRequest(octets, 0).verdict === "rejected"));
  });
});
