import { nobleCrypto } from "../../src/crypto/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { packetBackend } from "../../src/srtp/index.js";
import { describePacketCipher } from "../suites/packet-cipher.js";

for (const choice of ["kernel", "provider"] as const) {
  for (const crypto of [nodeCrypto, nobleCrypto]) {
    const { name, factory } = packetBackend(crypto, choice);
    describePacketCipher(name, factory, choice === "kernel" ? 0x1000 : undefined);
  }
}
