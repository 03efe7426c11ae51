import { nobleCrypto } from "../../src/crypto/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { packetCipherFactory } from "../../src/srtp/index.js";
import { describePacketCipher } from "../suites/packet-cipher.js";

describePacketCipher("over node:crypto", packetCipherFactory(nodeCrypto));
describePacketCipher("over @noble", packetCipherFactory(nobleCrypto));
