import { RtpHeader, SrtpSession } from "werift-rtp";
import type { SuiteName } from "../../../src/srtp/index.js";
import { suiteOf } from "../../../src/srtp/index.js";
import { type Contender, MASTER_KEY, MASTER_SALT } from "../workload.js";

const PROFILES: Partial<Record<SuiteName, number>> = { AES_CM_128_HMAC_SHA1_80: 1, AEAD_AES_128_GCM: 7 };

/** werift-rtp, which does no replay protection. */
export const werift: Contender = (suite, payload, count) => {
  const profile = PROFILES[suite];
  if (profile === undefined) return undefined;
  const { keyLength, saltLength } = suiteOf(suite);
  const [localMasterKey, localMasterSalt] = [Buffer.alloc(keyLength, MASTER_KEY), Buffer.alloc(saltLength, MASTER_SALT)];
  const keys = { localMasterKey, localMasterSalt, remoteMasterKey: localMasterKey, remoteMasterSalt: localMasterSalt };
  const body = Buffer.alloc(payload, 0x42);
  const headers = Array.from({ length: count }, () => new RtpHeader({ version: 2, sequenceNumber: 0, ssrc: 1, timestamp: 0 }));
  const wire: Buffer[] = new Array(count);
  return {
    layOut(first) {
      headers.forEach((header, i) => {
        header.sequenceNumber = first + i;
      });
    },
    open() {
      const session = new SrtpSession({ keys, profile });
      return {
        protect(from, to) {
          for (let i = from; i < to; i++) wire[i] = session.encrypt(body, headers[i] as RtpHeader);
        },
        unprotect(from, to) {
          for (let i = from; i < to; i++) session.decrypt(wire[i] as Buffer);
        },
        close() {},
      };
    },
  };
};
