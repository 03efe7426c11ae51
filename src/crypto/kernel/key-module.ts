import { CONSTANTS_END, HASH_SCHEDULE, HASH_STATE, MEMORY_PAGES } from "../key-kernel-layout.js";
import { addAes } from "./aes.js";
import { I32, type Local, ModuleBuilder } from "./assembler.js";
import { addHash, type HashFunction } from "./hmac.js";
import { emitSha1, SHA1_CONSTANTS, SHA1_INITIAL } from "./sha1.js";
import { addSha256 } from "./sha256.js";

/** Puts the key kernel together: the octets of a WebAssembly module, the same at every run. */
export function buildKeyKernel(): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder();
  addHash(module, "sha1", addSha1(module));
  addHash(module, "sha256", addSha256(module));
  addAes(module);
  if (module.constantLength > CONSTANTS_END) throw new RangeError("the constants have outgrown their place");
  return module.encode(MEMORY_PAGES);
}

function addSha1(module: ModuleBuilder): HashFunction {
  const places = { state: HASH_STATE, schedule: HASH_SCHEDULE, constants: module.constant(SHA1_CONSTANTS) };
  const compress = module.function(undefined, [I32, I32], [], (body, data, blocks) => {
    emitSha1(body, data as Local, blocks as Local, places);
  });
  return { initial: SHA1_INITIAL, compress };
}
