import { describe, expect, it } from "vitest";
import * as mikey from "../../src/mikey/index.js";
import {
  type AnyRegistry,
  DataType,
  ErrorNo,
  ExtensionType,
  entriesOf,
  entryOf,
  labelOf,
  MacAlg,
  nameOf,
  PayloadType,
  PrfFunc,
  ProtType,
  SrtpParam,
  TeslaParam,
  TicketFlag,
  titleOf,
} from "../../src/mikey/index.js";

/** Every table of the room, by the name of its export. */
const registries = Object.entries(mikey as Readonly<Record<string, unknown>>).filter((entry): entry is [string, AnyRegistry] => {
  const value = entry[1];
  return typeof value === "object" && value !== null && Object.getOwnPropertySymbols(value).length === 3;
});

describe("registry", () => {
  it("finds all tables", () => {
    expect(registries.length).toBeGreaterThanOrEqual(30);
  });

  it.each(registries)("%s: one row per number, with a meaning and a source", (_name, table) => {
    const entries = entriesOf(table);
    expect(entries.length).toBeGreaterThan(0);
    expect(labelOf(table)).not.toBe("");
    for (const entry of entries) {
      expect(entryOf(table, entry.value)).toBe(entry);
      expect((table as unknown as Record<string, number>)[entry.name]).toBe(entry.value);
      expect(entry.title).not.toBe("");
      expect(entry.reference).toMatch(/^(RFC \d{4}( §[\d.]+(, App\. [A-Z])?)?|3GPP TS 33\.\d{3}|docs\/protocol\.md)$/);
      expect(nameOf(table, entry.value)).toBe(entry.name);
      expect(titleOf(table, entry.value)).toBe(entry.title);
    }
    const named = Object.keys(table).length;
    expect(named, "a number stands in two rows").toBe(entries.length);
  });

  it("tells private use from unassigned", () => {
    expect(nameOf(PayloadType, 18)).toBe("unassigned");
    expect(nameOf(PayloadType, 250)).toBe("private");
    expect(titleOf(PrfFunc, 111)).toBe("unassigned");
    expect(titleOf(PrfFunc, 112)).toBe("private use");
    expect(entryOf(MacAlg, 9999)).toBeUndefined();
    expect(entryOf(MacAlg, -1)).toBeUndefined();
  });

  it("our own numbers are in the private range", () => {
    for (const [name, table] of registries) {
      // Tables that only docs/protocol.md has count from 0 or 1.
      if (entriesOf(table).every(({ reference }) => reference === "docs/protocol.md")) continue;
      for (const entry of entriesOf(table))
        expect(entry.reference === "docs/protocol.md", `${name}.${entry.name}`).toBe(entry.value >= 241);
    }
  });

  /** The tables as RFC 3830 §6, RFC 4650, 4738, 6043, 6267, 6509 and 4771 print them, to catch a slip of the pen in a row. */
  it("the numbers are those of the RFCs", () => {
    const names = (table: AnyRegistry, below = 241): string[] =>
      entriesOf(table)
        .filter(({ value }) => value < below)
        .map(({ value, name }) => `${value} ${name}`);
    expect(names(PayloadType)).toEqual(
      [
        "LAST KEMAC PKE DH SIGN T ID CERT CHASH V SP RAND ERR TR IDR RANDR TP TICKET",
        "KEY_DATA EXT IBAKE ESK SK ECCPT SAKKE",
      ].flatMap((text, block) => text.split(" ").map((name, index) => `${index + 20 * block} ${name}`)),
    );
    expect(entriesOf(DataType).filter(({ value }) => value < 241)).toHaveLength(27);
    expect(DataType).toMatchObject({ PSK_INIT: 0, PK_INIT: 2, DH_INIT: 4, ERROR: 6, DHHMAC_INIT: 7, RSAR_INIT: 9 });
    expect(DataType).toMatchObject({ REQUEST_INIT_PSK: 11, TRANSFER_INIT: 14, RESOLVE_RESP: 18, REQUEST_KEY_PSK: 19, SAKKE: 26 });
    expect(ErrorNo).toMatchObject({ AUTH_FAILURE: 0, INVALID_TS: 1, INVALID_SP: 9, UNSPECIFIED: 12, UNSUPPORTED_MESSAGE: 13 });
    expect(ExtensionType).toMatchObject({ VENDOR_ID: 0, SDP_IDS: 1, TESLA_I_KEY: 2, KEY_ID: 3, CSB_ID: 4, OMA_BCAST: 5 });
    expect(SrtpParam).toMatchObject({ ENCR_ALG: 0, SESSION_AUTH_KEY_LENGTH: 3, SRTP_ENCRYPTION: 7, AUTH_TAG_LENGTH: 11 });
    expect(SrtpParam).toMatchObject({ ROC_RATE: 13, SRTCP_TAG_LENGTH: 19, AEAD_TAG_LENGTH: 20 });
    expect(entriesOf(SrtpParam).map(({ value }) => value)).toEqual(Array.from({ length: 21 }, (_, value) => value));
    expect(entriesOf(TeslaParam).map(({ value }) => value)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it("rows carry what dispatch needs", () => {
    expect([0, 1, 2].map((value) => entryOf(MacAlg, value)?.octets)).toEqual([0, 20, 32]);
    expect(entryOf(ProtType, 0)?.params).toBe(SrtpParam);
    expect(entryOf(ProtType, 1)?.params).toBe(TeslaParam);
    expect(entryOf(MacAlg, MacAlg.HMAC_SHA_256_128)).toMatchObject({ octets: 16, keyOctets: 32 });
  });

  it("ticket flags are twelve bits, D to O", () => {
    const flags = Object.entries(TicketFlag);
    expect(flags.map(([name]) => name).join("")).toBe("DEFGHIJKLMNO");
    expect(flags.map(([, { value }]) => value)).toEqual(flags.map((_, index) => 0x800 >> index));
  });
});
