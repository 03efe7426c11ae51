import { describe, expect, it } from "vitest";
import type { Certificate, GeneralName } from "../../../src/crypto/x509/index.js";
import { addressOctets, namesIdentity, withinConstraints } from "../../../src/crypto/x509/names.js";

const uri = (value: string): GeneralName => ({ kind: "uri", value });
const dns = (value: string): GeneralName => ({ kind: "dns", value });
const email = (value: string): GeneralName => ({ kind: "email", value });
const ip = (value: string): GeneralName => ({ kind: "ip", value });

describe("whom a certificate names", () => {
  it.each([
    // SIP users: by URI or by the address in it, entire, users with case and hosts without.
    { identity: "sip:alice@example.org", names: [uri("sip:alice@example.org")], named: true },
    { identity: "sip:alice@EXAMPLE.org", names: [uri("SIP:alice@Example.ORG")], named: true },
    { identity: "sips:alice@example.org", names: [uri("sip:alice@example.org")], named: true },
    { identity: "sip:alice@example.org:5061;transport=tls", names: [uri("sip:alice@example.org")], named: true },
    { identity: "sip:%61lice@example.org", names: [uri("sip:alice@example.org")], named: true },
    { identity: "sip:alice:secret@example.org", names: [uri("sip:alice@example.org")], named: true },
    { identity: "sip:alice@example.org", names: [email("alice@example.org")], named: true },
    { identity: "sip:Alice@example.org", names: [uri("sip:alice@example.org")], named: false },
    { identity: "sip:bob@example.org", names: [uri("sip:alice@example.org")], named: false },
    { identity: "sip:alice@example.org", names: [uri("sip:alice@example.net")], named: false },
    { identity: "sip:alice@example.org", names: [uri("sip:alice@example.org.example.net")], named: false },
    { identity: "sip:alice@example.org", names: [uri("sip:alice@sub.example.org")], named: false },
    { identity: "sip:alice@example.org", names: [uri("sip:alice@example.org@example.net")], named: false },
    { identity: "sip:alice@example.org", names: [dns("example.org")], named: false },
    { identity: "sip:alice@example.org", names: [uri("sip:example.org")], named: false },
    { identity: "sip:alice@example.org", names: [uri("https://alice@example.org")], named: false },
    { identity: "sip:alice@192.0.2.1", names: [uri("sip:alice@192.0.2.1")], named: true },
    { identity: "sip:alice@[2001:DB8::1]", names: [uri("sip:alice@[2001:db8:0::1]")], named: true },
    { identity: "sip:alice@[2001:db8::2]", names: [uri("sip:alice@[2001:db8::1]")], named: false },
    { identity: "sip:alice@example.org", names: [], named: false },
    // SIP domains (RFC 5922 §7).
    { identity: "sip:example.org", names: [uri("sip:example.org")], named: true },
    { identity: "sip:example.org", names: [dns("example.org")], named: true },
    { identity: "sip:example.org", names: [uri("sip:example.net"), dns("example.org")], named: false },
    { identity: "sip:example.org", names: [uri("sip:alice@example.org")], named: false },
    { identity: "sip:sub.example.org", names: [dns("*.example.org")], named: false },
    { identity: "sip:192.0.2.1", names: [ip("192.0.2.1")], named: true },
    // Network access identifiers.
    { identity: "alice@example.org", names: [email("alice@EXAMPLE.org")], named: true },
    { identity: "alice@example.org", names: [uri("sip:alice@example.org")], named: true },
    { identity: "alice@example.org", names: [email("bob@example.org")], named: false },
    { identity: "alice@example.org", names: [dns("example.org")], named: false },
    // RTSP.
    { identity: "rtsp://camera.example.org/stream", names: [dns("camera.example.org")], named: true },
    { identity: "rtsps://camera.example.org:322/stream?x", names: [dns("CAMERA.example.org")], named: true },
    { identity: "rtsp://user:pass@camera.example.org/", names: [dns("camera.example.org")], named: true },
    { identity: "rtsp://camera.example.org/", names: [dns("*.example.org")], named: true },
    { identity: "rtsp://a.camera.example.org/", names: [dns("*.example.org")], named: false },
    { identity: "rtsp://example.org/", names: [dns("*.example.org")], named: false },
    { identity: "rtsp://example.org/", names: [dns("*.org")], named: false },
    { identity: "rtsp://camera.example.org/", names: [dns("c*.example.org")], named: false },
    { identity: "rtsp://camera.example.org/", names: [dns("*")], named: false },
    { identity: "rtsp://camera.example.org/", names: [dns("camera.example.org\u0000.example.net")], named: false },
    { identity: "rtsp://192.0.2.1:8554/live", names: [ip("192.0.2.1")], named: true },
    { identity: "rtsp://192.0.2.1:8554/live", names: [dns("192.0.2.1")], named: false },
    { identity: "rtsp://[2001:db8::1]/live", names: [ip("2001:db8::1")], named: true },
    { identity: "rtsp://camera.example.org/a", names: [uri("rtsp://camera.example.org/a")], named: true },
    { identity: "rtsp://camera.example.org/a", names: [uri("rtsps://camera.example.org")], named: true },
    { identity: "rtsp://camera.example.org/a", names: [uri("rtsp://camera.example.org/b")], named: false },
    { identity: "rtsp://camera.example.org:8554/a", names: [uri("rtsp://camera.example.org:8555/a")], named: false },
    { identity: "rtsp://camera.example.org/", names: [uri("sip:camera.example.org")], named: false },
    // The authority ends at the first ? or # (RFC 3986 §3.2): constraints on names are held against the same host.
    { identity: "rtsp://example.net/", names: [uri("rtsp://example.org?@example.net/")], named: false },
    { identity: "rtsp://example.net/", names: [uri("rtsp://example.org#@example.net/")], named: false },
    { identity: "rtsp://example.org?@example.net/", names: [dns("example.net")], named: false },
    // Hosts, addresses, other URIs.
    { identity: "camera.example.org.", names: [dns("camera.example.org")], named: true },
    { identity: "2001:db8::1", names: [ip("2001:db8:0:0:0:0:0:1")], named: true },
    { identity: "::ffff:192.0.2.1", names: [ip("192.0.2.1")], named: false },
    { identity: "192.0.2.1", names: [ip("192.0.2.2")], named: false },
    { identity: "tel:+15550100", names: [uri("tel:+15550100")], named: true },
    { identity: "tel:+15550100", names: [uri("tel:+15550101")], named: false },
    { identity: "urn:uuid:5", names: [dns("urn:uuid:5")], named: false },
    { identity: "", names: [dns(""), uri(""), email("")], named: false },
  ])("$identity in $names: $named", ({ identity, names, named }) => {
    expect(namesIdentity({ names }, identity, false)).toBe(named);
  });

  it.each([
    { names: [dns("example.org")], named: true },
    { names: [uri("sip:example.org")], named: true },
    { names: [uri("sip:example.net"), dns("example.org")], named: false },
    { names: [dns("sub.example.org")], named: false },
    { names: [dns("*.example.org")], named: false },
    { names: [uri("sip:bob@example.org")], named: false },
  ])("a SIP domain for its users where that is asked for: $names, $named", ({ names, named }) => {
    expect(namesIdentity({ names }, "sip:alice@example.org", true)).toBe(named);
  });

  it.each([
    { text: "192.0.2.1", octets: [192, 0, 2, 1] },
    { text: "192.0.2.256", octets: undefined },
    { text: "192.0.2", octets: undefined },
    { text: "0x7f.1", octets: undefined },
    { text: "::", octets: new Array(16).fill(0) },
    { text: "[::1]", octets: [...new Array(15).fill(0), 1] },
    { text: "1:2:3:4:5:6:7:8", octets: [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8] },
    { text: "::ffff:192.0.2.1", octets: [...new Array(10).fill(0), 255, 255, 192, 0, 2, 1] },
    { text: "1::2::3", octets: undefined },
    { text: "fe80::1%eth0", octets: undefined },
    { text: "example.org", octets: undefined },
    { text: "", octets: undefined },
  ])("$text as an address", ({ text, octets }) => {
    expect(addressOctets(text)).toEqual(octets && Uint8Array.from(octets));
  });
});

describe("constraints on names (RFC 5280 §4.2.1.10)", () => {
  const of = (names: readonly GeneralName[], subjectRdns = "", subjectEmails: readonly string[] = []): Certificate =>
    ({ names, subjectRdns, subjectEmails }) as Certificate;

  it.each([
    { name: dns("host.example.org"), constraint: dns("example.org"), within: true },
    { name: dns("example.org"), constraint: dns("example.org"), within: true },
    { name: dns("EXAMPLE.org"), constraint: dns("example.ORG"), within: true },
    { name: dns("badexample.org"), constraint: dns("example.org"), within: false },
    { name: dns("example.org.example.net"), constraint: dns("example.org"), within: false },
    { name: dns("*.example.org"), constraint: dns("example.org"), within: true },
    { name: dns("*.example.org"), constraint: dns("host.example.org"), within: "partly" },
    { name: dns("host.example.org"), constraint: dns(""), within: true },
    { name: dns("not a name"), constraint: dns("example.org"), within: "unknown" },
    { name: email("alice@example.org"), constraint: email("example.org"), within: true },
    { name: email("alice@host.example.org"), constraint: email("example.org"), within: false },
    { name: email("alice@host.example.org"), constraint: email(".example.org"), within: true },
    { name: email("alice@example.org"), constraint: email(".example.org"), within: false },
    { name: email("alice@example.org"), constraint: email("alice@example.org"), within: true },
    { name: email("bob@example.org"), constraint: email("alice@example.org"), within: false },
    { name: email("example.org"), constraint: email("example.org"), within: "unknown" },
    { name: uri("https://host.example.org/x"), constraint: uri("host.example.org"), within: true },
    { name: uri("https://host.example.org/x"), constraint: uri("example.org"), within: false },
    { name: uri("rtsp://u@host.example.org:8554"), constraint: uri(".example.org"), within: true },
    { name: uri("https://example.org@example.net/"), constraint: uri("example.org"), within: false },
    { name: uri("rtsp://example.org?@example.net/"), constraint: uri("example.org"), within: true },
    { name: uri("sip:alice@example.org"), constraint: uri("example.org"), within: true },
    { name: uri("sip:alice@example.net"), constraint: uri("example.org"), within: false },
    { name: uri("https://192.0.2.1/"), constraint: uri("example.org"), within: "unknown" },
    { name: uri("urn:example.org"), constraint: uri("example.org"), within: "unknown" },
    { name: ip("10.1.2.3"), constraint: ip("10.0.0.0/8"), within: true },
    { name: ip("11.1.2.3"), constraint: ip("10.0.0.0/8"), within: false },
    { name: ip("10.1.2.3"), constraint: ip("10.1.2.0/23"), within: true },
    { name: ip("10.1.4.3"), constraint: ip("10.1.2.0/23"), within: false },
    { name: ip("10.1.2.3"), constraint: ip("0.0.0.0/0"), within: true },
    { name: ip("10.1.2.3"), constraint: ip("::/0"), within: false },
    { name: ip("2001:db8::7"), constraint: ip("2001:db8::/32"), within: true },
    { name: ip("2001:db9::7"), constraint: ip("2001:db8::/32"), within: false },
    { name: { kind: "other", value: "00" }, constraint: { kind: "other", value: "00" }, within: "unknown" },
  ] as const)("$name.value within $constraint.value: $within", ({ name, constraint, within }) => {
    expect(withinConstraints(of([name]), { permitted: [constraint], excluded: [] })).toBe(within === true);
    expect(withinConstraints(of([name]), { permitted: [], excluded: [constraint] })).toBe(within === false);
  });

  it("leave alone what they do not speak of", () => {
    expect(
      withinConstraints(of([uri("urn:x"), dns("example.org")]), { permitted: [dns("example.org")], excluded: [ip("::/0")] }),
    ).toBe(true);
  });

  it("hold for the subject, and for its e-mail addresses where there are no others", () => {
    const directory = (value: string): GeneralName => ({ kind: "directory", value });
    const permitted = { permitted: [directory("aa\nbb")], excluded: [] };
    expect(withinConstraints(of([], "aa\nbb\ncc"), permitted)).toBe(true);
    expect(withinConstraints(of([], "aa\nbb"), permitted)).toBe(true);
    expect(withinConstraints(of([], "aa\nbbcc"), permitted)).toBe(false);
    expect(withinConstraints(of([], "aa"), permitted)).toBe(false);
    expect(withinConstraints(of([], ""), permitted)).toBe(true);
    const mail = { permitted: [email("example.org")], excluded: [] };
    expect(withinConstraints(of([], "aa", ["alice@example.net"]), mail)).toBe(false);
    expect(withinConstraints(of([email("alice@example.org")], "aa", ["alice@example.net"]), mail)).toBe(true);
  });
});
