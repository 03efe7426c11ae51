import type { CryptoProvider, PrivateKey } from "../../src/crypto/index.js";

/** A provider whose work is waited for: public-key operations take real time, of which a simulated network knows nothing. */
export interface BusyCrypto {
  readonly crypto: CryptoProvider;
  /** Resolves when nothing is being computed, and what came of it has been taken up. */
  idle(): Promise<void>;
}

export function busyCrypto(inner: CryptoProvider): BusyCrypto {
  const running = new Set<Promise<unknown>>();
  const watch = <T>(promise: Promise<T>): Promise<T> => {
    running.add(promise);
    const done = (): void => void running.delete(promise);
    promise.then(done, done);
    return promise;
  };
  const watchedKey = (key: PrivateKey): PrivateKey => ({
    ...key,
    publicKey: key.publicKey,
    signatureSchemes: key.signatureSchemes,
    encryptionSchemes: key.encryptionSchemes,
    sign: (...args) => watch(key.sign(...args)),
    decrypt: (...args) => watch(key.decrypt(...args)),
  });
  const crypto: CryptoProvider = Object.assign(Object.create(inner) as CryptoProvider, {
    importPrivateKey: (...args: Parameters<CryptoProvider["importPrivateKey"]>) => watchedKey(inner.importPrivateKey(...args)),
    verify: (...args: Parameters<CryptoProvider["verify"]>) => watch(inner.verify(...args)),
    encrypt: (...args: Parameters<CryptoProvider["encrypt"]>) => watch(inner.encrypt(...args)),
    agreement: async (...args: Parameters<CryptoProvider["agreement"]>) => {
      const made = await watch(inner.agreement(...args));
      return Object.assign(Object.create(made) as typeof made, {
        group: made.group,
        publicValue: made.publicValue,
        agree: (value: Uint8Array) => watch(made.agree(value)),
        wipe: () => made.wipe(),
      });
    },
  });
  return {
    crypto,
    async idle() {
      do {
        await Promise.allSettled(running);
        await new Promise((resume) => setImmediate(resume));
      } while (running.size > 0);
    },
  };
}
