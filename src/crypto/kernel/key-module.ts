import { CONSTANTS_END, MEMORY_PAGES } from "../key-kernel-layout.js";
import { ModuleBuilder } from "./assembler.js";
import { addKeyWrap } from "./key-wrap.js";
import { addHmacSha256 } from "./sha256.js";

/** Puts the key kernel together: the octets of a WebAssembly module, the same at every run. */
export function buildKeyKernel(): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder();
  addHmacSha256(module);
  addKeyWrap(module);
  if (module.constantLength > CONSTANTS_END) throw new RangeError("the constants have outgrown their place");
  return module.encode(MEMORY_PAGES);
}
