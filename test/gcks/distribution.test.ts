import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseHex } from "../../src/bytes/index.js";
import { defaultCrypto } from "../../src/crypto/index.js";
import { Distribution } from "../../src/gcks/distribution.js";
import { createSimulatedNetwork } from "../../src/io/index.js";

const vectors = JSON.parse(readFileSync(new URL("../vectors/group-messages.json", import.meta.url), "utf8"));
const packet = parseHex(vectors.rekey);

describe("the distribution of rekey messages", () => {
  it("sends every packet once, however soon the next sequence comes, and repeats the newest alone", async () => {
    const network = createSimulatedNetwork();
    const sent: number[] = [];
    const distribution = new Distribution({
      crypto: defaultCrypto,
      timers: network.timers,
      retransmission: { count: 2, firstMs: 100 },
      multicast: (datagram) => sent.push(datagram.length),
      addresses: () => new Map(),
      leafOf: () => undefined,
      onSent: () => undefined,
      onFailed: () => undefined,
    });
    distribution.send(new Array(200).fill(packet));
    distribution.send([packet]);
    await network.advance(50);
    expect(sent).toHaveLength(200 + 1);
    await network.advance(1000);
    expect(sent).toHaveLength(200 + 1 + 2);
    distribution.send(new Array(200).fill(packet));
    distribution.close();
    await network.advance(1000);
    expect(sent.length).toBeLessThan(203 + 200);
  });
});
