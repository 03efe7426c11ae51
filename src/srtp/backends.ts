import { WatchwordError } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import type { PacketCipherFactory, SrtpBackendChoice } from "./contracts.js";
import { sharedKernel } from "./kernel.js";
import { kernelCipherFactory } from "./kernel-cipher.js";
import { packetCipherFactory } from "./packet-cipher.js";

/** Where packet transforms come from, and the name under which a session shows it. */
export interface PacketBackend {
  readonly name: string;
  readonly factory: PacketCipherFactory;
}

/**
 * `kernel+node`: the kernel with the AES of a provider whose calls are costly because it is native; `kernel`: the kernel alone;
 * otherwise the name of the provider whose primitives make up the portable transforms.
 * @throws WatchwordError `srtp.no-kernel` where the kernel is demanded and WebAssembly with vectors is not there
 */
export function packetBackend(crypto: CryptoProvider, choice: SrtpBackendChoice): PacketBackend {
  const kernel = choice === "provider" ? undefined : sharedKernel();
  if (kernel === undefined && choice === "kernel") {
    throw new WatchwordError("srtp.no-kernel", "WebAssembly with vectors is not available: the SRTP kernel cannot run");
  }
  if (kernel === undefined) return { name: crypto.name, factory: packetCipherFactory(crypto) };
  const name = crypto.callsAreCostly ? `kernel+${crypto.name}` : "kernel";
  return { name, factory: kernelCipherFactory(kernel, crypto) };
}
