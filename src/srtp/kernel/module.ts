import { ModuleBuilder } from "../../crypto/kernel/index.js";
import { CONSTANTS_END, MEMORY_PAGES } from "../kernel-layout.js";
import { addAes } from "./aes.js";
import { addAeadPackets, addGhash } from "./ghash.js";
import { addPackets } from "./packets.js";
import { addSha1 } from "./sha1.js";

/** Puts the kernel together: the octets of a WebAssembly module, the same at every run. */
export function buildKernel(): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder();
  const sha1 = addSha1(module);
  const { combine } = addPackets(module, sha1);
  addAeadPackets(module, addGhash(module), combine);
  addAes(module);
  if (module.constantLength > CONSTANTS_END) throw new RangeError("the constants have outgrown their place");
  return module.encode(MEMORY_PAGES);
}
