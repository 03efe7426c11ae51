import { expect, it } from "vitest";
import { formatHex, parseHex } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createDerivation, type Purpose } from "../../src/gkma/derivation.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import groupKeys from "../vectors/group-keys.json" with { type: "json" };

it.each(groupKeys.oneWay)("$label of node $node, version $version, $octets octets (docs/protocol.md §17.2)", (vector) => {
  const { label, secret, node, version, octets, out } = vector;
  for (const crypto of [nodeCrypto, nobleCrypto]) {
    const derived = createDerivation(crypto).derive(label.slice("ww1 ".length) as Purpose, parseHex(secret), node, version, octets);
    expect(formatHex(derived.subarray(0, octets))).toBe(out);
  }
});
