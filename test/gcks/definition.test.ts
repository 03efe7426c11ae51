import { describe, expect, it } from "vitest";
import { describeGroup, groupPolicies, isCarried, readGroupDefinition, roleFor } from "../../src/gcks/definition.js";
import { decodeGroupPolicies, encodeGroupPolicies } from "../../src/gsa/index.js";

const good = (changes: Record<string, unknown> = {}): Record<string, unknown> => ({
  name: "blue",
  members: [{ identity: "sip:alice@example.org", role: "both" }, { identity: "sip:*@example.org" }],
  streams: [{ media: "audio", formats: [96], lines: ["a=rtpmap:96 opus/48000/2"], address: "239.0.0.2", port: 5004 }],
  rekey: { address: "239.0.0.1:2269" },
  ...changes,
});

describe("the definition of a group", () => {
  it("has defaults for everything but name, members and streams", () => {
    const definition = readGroupDefinition(good());
    expect(definition).toMatchObject({
      joins: "at-once",
      leaves: "at-once",
      membershipLifetime: 3600,
      deregistration: "acknowledged",
    });
    expect(definition.rekey).toMatchObject({
      algorithm: "ofc",
      degree: 2,
      signature: "ed25519",
      heartbeatMs: 10_000,
      controlAddress: "udp://239.0.0.1:2269",
    });
    expect(definition.data).toMatchObject([{ number: 1, arrangement: "shared", srtp: { suite: "AEAD_AES_128_GCM" } }]);
    expect(describeGroup(definition).streams[0]?.destination).toEqual({ host: "239.0.0.2", port: 5004 });
  });

  it("says what members are told, in a form that the wire takes", () => {
    const definition = readGroupDefinition(good({ visible: ["members"], title: "The blue ones" }));
    const policies = groupPolicies(definition, { members: 7, verificationKey: new Uint8Array(44) });
    expect(decodeGroupPolicies(encodeGroupPolicies(policies)).group).toMatchObject({ members: 7 });
    expect(policies.group.title).toBeUndefined();
  });

  it("lets in by the first rule that fits", () => {
    const definition = readGroupDefinition(good());
    const nobody = (): boolean => false;
    expect(roleFor(definition, "sip:alice@example.org", nobody)).toEqual({ send: true, receive: true });
    expect(roleFor(definition, "sip:bob@example.org", nobody)).toEqual({ send: false, receive: true });
    expect(roleFor(definition, "sip:bob@example.org.evil", nobody)).toBeUndefined();
    expect(roleFor(definition, "xsip:bob@exampleXorg", nobody)).toBeUndefined();
  });

  it.each<[string, { user?: string; certified?: readonly string[] }, boolean]>([
    ["nobody", {}, false],
    ["a user of our domain", { user: "alice" }, true],
    ["a user with a domain", { user: "alice@example.org" }, true],
    ["a user by URI", { user: "sip:alice@example.org" }, true],
    ["another user", { user: "bob" }, false],
    ["a user of another domain", { user: "alice@example.com" }, false],
    ["a certificate", { certified: ["sip:bob@example.org", "sip:alice@example.org"] }, true],
    ["another certificate", { certified: ["sip:bob@example.org"] }, false],
    ["a certificate that names nobody", { certified: [] }, false],
    ["both", { user: "alice", certified: ["sip:alice@example.org"] }, true],
    ["both, one of another", { user: "alice", certified: ["sip:bob@example.org"] }, false],
    ["both, the other of another", { user: "bob", certified: ["sip:alice@example.org"] }, false],
  ])("knows Alice by what her carrier authenticated: %s", (_what, peer, expected) => {
    const remote = { host: "192.0.2.1", port: 5060 };
    expect(isCarried("sip:alice@example.org", { remote, ...peer }, "example.org")).toBe(expected);
  });

  it.each<[string, Record<string, unknown>, string]>([
    ["an unknown field", { suites: "x" }, "group.suites is not known here"],
    ["no name", { name: undefined }, "group.name is missing"],
    ["a long name", { name: "x".repeat(256) }, "group.name has 1 to 255 octets"],
    ["an unknown suite", { suite: "ROT13" }, "group.suite is one of"],
    ["no members", { members: [] }, "group.members has 1 to"],
    ["a member without identity", { members: [{ role: "both" }] }, "group.members[0].identity is missing"],
    [
      "a role that is none",
      { members: [{ identity: "x", role: "king" }] },
      "group.members[0].role is one of sender, receiver, both",
    ],
    [
      "an odd port",
      { streams: [{ media: "audio", formats: [0], address: "239.0.0.2", port: 5005 }] },
      "group.streams[0].port is odd",
    ],
    [
      "a payload type too large",
      { streams: [{ media: "audio", formats: [128], address: "239.0.0.2", port: 5004 }] },
      "group.streams[0].formats[0] is a payload type",
    ],
    [
      "a line that keys",
      { streams: [{ media: "audio", formats: [0], lines: ["a=crypto:1 x"], address: "239.0.0.2", port: 5004 }] },
      "group.streams[0].lines[0] is an a=, b= or i= line",
    ],
    [
      "two lines in one",
      { streams: [{ media: "audio", formats: [0], lines: ["a=x\r\nm=video"], address: "239.0.0.2", port: 5004 }] },
      "group.streams[0].lines[0]",
    ],
    ["a control address that is no group", { rekey: { address: "10.0.0.1:2269" } }, "group.rekey.address is a multicast address"],
    [
      "old keys that end too early",
      { rekey: { activationDelay: 5, deactivationDelay: 5 } },
      "group.rekey.deactivationDelay is less than",
    ],
    [
      "many members without a tree",
      { rekey: { algorithm: "none" }, mostMembers: 2000 },
      "group.mostMembers is a whole number from 1",
    ],
    ["a degree of one", { rekey: { degree: 1 } }, "group.rekey.degree is a whole number from 2"],
    ["a lifetime of a second", { membershipLifetime: 1 }, "group.membershipLifetime is from 60"],
    ["a text where a number belongs", { batchInterval: "soon" }, "group.batchInterval is a number of seconds"],
    ["rekeying without a rekey SA", { rekey: null }, "group.rekey is missing"],
    [
      "batches in a group without signatures",
      { rekey: { signature: "none" }, rekeyOnJoin: "batched" },
      "group.rekeyOnJoin is batched",
    ],
    ["two data SAs of one number", { data: [{ number: 1 }, { number: 1 }] }, "group.data two data SAs"],
    ["a destination that is none", { data: [{ number: 1, destinations: ["http://x"] }] }, "group.data[0].destinations[0]"],
  ])("refuses %s", (_, changes, message) => {
    expect(() => readGroupDefinition(good(changes))).toThrowError(message);
    expect(() => readGroupDefinition(good(changes))).toThrow(expect.objectContaining({ code: "gcks.definition" }));
  });

  it.each([[undefined], [null], ["blue"], [[]], [7]])("refuses %j in place of a group", (value) => {
    expect(() => readGroupDefinition(value)).toThrow(expect.objectContaining({ code: "gcks.definition" }));
  });
});
