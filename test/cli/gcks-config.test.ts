import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WatchwordError } from "../../src/bytes/index.js";
import { parseGcksConfig } from "../../src/cli/gcks-config.js";

/** The example of docs/gcks.md. */
const EXAMPLE = /```yaml\n([\s\S]*?)```/.exec(readFileSync(new URL("../../docs/gcks.md", import.meta.url), "utf8"))?.[1] ?? "";

/** Replaces a part of the example, which has to be there. */
function changed(from: string, to: string): string {
  expect(EXAMPLE).toContain(from);
  return EXAMPLE.replace(from, to);
}

describe("the configuration of a key server", () => {
  it("is what docs/gcks.md shows", () => {
    const config = parseGcksConfig(EXAMPLE, "/etc/watchword");
    expect(config.identity).toBe("sip:gcks@example.org");
    expect(config.keys).toBe("/etc/watchword/members.txt");
    expect(config.store).toEqual({ file: "/etc/watchword/gcks.db", key: { file: "/etc/watchword/store.key" } });
    expect(config.sip).toEqual([{ transport: "udp", local: { host: "127.0.0.1", port: 5060 } }]);
    expect(config.rtsp).toEqual([{ local: { host: "127.0.0.1", port: 8554 } }]);
    expect(config.control).toEqual({ local: { host: "127.0.0.1", port: 2269 }, interface: "lo", ttl: 1 });
    expect(config.groups.map(({ name }) => name)).toEqual(["blue"]);
  });

  it("takes every line of the example that is commented out", () => {
    const everything = EXAMPLE.replace(/^( *)# (?=(?:- \{|expulsions:|credential:|period:|certificates:|modes:|server:))/gm, "$1");
    const config = parseGcksConfig(everything, "/etc/watchword");
    expect(config.sip.map(({ transport }) => transport)).toEqual(["udp", "tls", "ws"]);
    expect(config.sip[1]?.tls).toEqual({
      certificate: "/etc/watchword/cert.pem",
      key: "/etc/watchword/key.pem",
      clientCa: "/etc/watchword/ca.pem",
      clientCrls: ["/etc/watchword/ca.crl"],
    });
    expect(config.rtsp.map(({ users }) => users)).toEqual([undefined, "/etc/watchword/users.txt"]);
    expect(config.outside).toBe("/etc/watchword/expulsions.db");
    expect(config.groups[0]?.rekey?.serverAddress).toBe("udp://gcks.example.org:2269");
    expect(config.credentials.get("blue")).toBe("/etc/watchword/blue.credential");
    expect(config.certificates).toEqual({
      key: "/etc/watchword/gcks.key",
      certificate: "/etc/watchword/gcks.pem",
      issuers: new Map([
        ["ca.pem", "/etc/watchword/ca.pem"],
        ["partners.pem", "/etc/watchword/partners.pem"],
      ]),
      revocations: ["/etc/watchword/ca.crl"],
    });
    expect(config.modes).toEqual(["dh", "rsa-r", "pk", "dhhmac"]);
    expect(config.groups[0]?.access.map(({ issuer }) => issuer)).toEqual([undefined, undefined, "partners.pem"]);
  });

  it.each([
    ["identity: sip:gcks@example.org", "identity: nobody at all", "config.identity"],
    ["keys: members.txt", "kees: members.txt", "config.kees is not known here"],
    ["role: both }", "issuer: other.pem }", "config.groups[0].members[0].issuer is none of config.certificates.issuers"],
    ["keys: members.txt", "keys: members.txt\nmodes: [dhx]", "config.modes[0] is one of psk, pk, dh, dhhmac, rsa-r"],
    ["keys: members.txt", "keys: members.txt\nmodes: [psk, dh]", "config.modes[1]: mode dh needs certificates"],
    [
      "keys: members.txt",
      "certificates: { key: a, certificate: b, issuers: [] }",
      "config.certificates.issuers has 1 to 64 entries",
    ],
    [
      "keys: members.txt",
      "certificates: { key: a, certificate: b, issuers: [7] }",
      "config.certificates.issuers[0] is the name of a file",
    ],
    ["keys: members.txt", "", "config.keys or certificates is missing"],
    ["ttl: 1", "tll: 1", "config.control.tll is not known here"],
    ['listen: "127.0.0.1:5060"', 'listen: "127.0.0.1:70000"', "config.sip[0].listen"],
    ["transport: udp", "transport: sctp", "config.sip[0].transport"],
    ["transport: udp", "transport: tls", "config.sip[0].certificate"],
    ["transport: udp", "transport: ws, certificate: a, key: b, clientCa: c", "config.sip[0].clientCa goes with transport tls"],
    ["transport: udp", "transport: udp, clientCa: c", "config.sip[0].clientCa needs a certificate of ours"],
    ["transport: udp", "transport: tls, certificate: a, key: b, clientCrls: [c]", "config.sip[0].clientCrls goes with clientCa"],
    ["carrierIdentity: any", "carrierIdentity: some", "config.groups[0].carrierIdentity is one of any, same"],
    ["carrierIdentity: any", "carrierIdentity: same", "carrierIdentity is same, and no listener has users or clientCa"],
    ["key: { file: store.key }", "key: { file: store.key, environment: KEY }", "config.store.key names a file or"],
    ["key: { file: store.key }", "key: { fil: store.key }", "config.store.key.fil is not known here"],
    ["key: { file: store.key }", "key: store.key", "config.store.key is not a set of named fields"],
    ["port: 5004", "port: 5005", "config.groups[0].streams[0].port"],
    ["role: both", "role: boss", "config.groups[0].members[0].role"],
    ["# server: gcks.example.org:2269", "server: 239.0.0.1:2269", "config.groups[0].rekey.server"],
    ["# server: gcks.example.org:2269", "server: gcks.example.org", "config.groups[0].rekey.server"],
  ])("says what is wrong with %s as %s", (from, to, message) => {
    expect(() => parseGcksConfig(changed(from, to))).toThrow(message);
  });

  it("has a socket for reports where a group says that they go there", () => {
    const config = changed("# server:", "server:").replace('  listen: "127.0.0.1:2269"', "");
    expect(() => parseGcksConfig(config)).toThrow("config.groups[0].rekey.server needs control.listen");
  });

  it("is YAML, without aliases that grow", () => {
    expect(() => parseGcksConfig("identity: [")).toThrow(expect.objectContaining({ code: "cli.yaml" }));
    expect(() => parseGcksConfig("a: &a [1]\nb: [*a, *a]")).toThrow(WatchwordError);
  });

  it("is a configuration or an error of ours, whatever is in the file", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.nat(EXAMPLE.length).map((end) => EXAMPLE.slice(0, end)),
        ),
        (text) => {
          try {
            parseGcksConfig(text);
          } catch (error) {
            expect(error).toBeInstanceOf(WatchwordError);
          }
        },
      ),
      { numRuns: 200 },
    );
  });
});
