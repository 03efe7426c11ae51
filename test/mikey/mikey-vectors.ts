import { readFileSync } from "node:fs";
import type { EncryptionScheme, PublicKeyKind, SignatureScheme } from "../../src/crypto/index.js";
import type { SuiteName } from "../../src/srtp/index.js";

/** test/vectors/mikey-*.json as docs/test-vectors.md describes them. Octets are hexadecimal text. */
export interface VectorFile {
  readonly name: string;
  readonly credentials?: Readonly<Record<string, VectorKey>>;
  readonly vectors: readonly Vector[];
}

export interface VectorKey {
  readonly kind: PublicKeyKind;
  readonly pkcs8: string;
  readonly spki: string;
  readonly certificate: string;
  readonly issuer: string;
}

export interface VectorIdentity {
  readonly type: number;
  readonly data: string;
}

export interface Vector {
  readonly name: string;
  readonly mode: "PSK" | "PK" | "DH" | "DHHMAC" | "RSA-R";
  readonly readings?: readonly string[];
  readonly prfFunc: number;
  readonly csbId: string;
  /** RSA-R group mode: the CSB ID of the Responder, which keys are derived with. */
  readonly groupCsbId?: string;
  readonly rand: string;
  readonly randBy: "initiator" | "responder";
  readonly initiator: VectorIdentity;
  readonly responder: VectorIdentity | null;
  readonly mapType: 0 | 1 | 2;
  readonly policies: readonly { readonly policyNo: number; readonly suite: SuiteName }[];
  readonly psk?: string;
  readonly credentials?: readonly string[];
  readonly exchanges: readonly VectorExchange[];
}

export interface VectorExchange {
  readonly kind: "initial" | "update";
  readonly timestamp: { readonly type: number; readonly value: string };
  readonly dh?: VectorAgreement;
  readonly iMessage: VectorMessage;
  readonly rMessage?: VectorMessage;
  readonly errMessage?: VectorMessage;
  readonly keys: readonly VectorKeyMaterial[];
  readonly cryptoSessions: readonly VectorSession[];
}

export interface VectorAgreement {
  readonly group: number;
  readonly initiatorPrivate: string;
  readonly initiatorValue: string;
  readonly responderPrivate: string;
  readonly responderValue: string;
  readonly shared: string;
}

export interface VectorField {
  readonly at: number;
  readonly field: string;
  readonly hex: string;
}

export interface VectorMessage {
  readonly octets: string;
  readonly fields: readonly VectorField[];
  readonly kemac?: VectorKemac;
  readonly envelope?: VectorEnvelope;
  readonly verification?: { readonly authAlg: number; readonly authKey: string; readonly input: string; readonly mac: string };
  readonly signature?: VectorSignature;
}

export interface VectorKemac {
  readonly encrAlg: number;
  readonly macAlg: number;
  readonly inkey: string;
  readonly encrKey: string;
  readonly saltKey: string;
  readonly authKey: string;
  readonly iv?: string;
  readonly keyData: string;
  readonly keyDataFields: readonly VectorField[];
  readonly encrData: string;
  readonly macInput: string;
  readonly mac: string;
}

export interface VectorEnvelope {
  readonly scheme: EncryptionScheme;
  readonly recipient: string;
  readonly envelopeKey: string;
  /** RSAES-PKCS1-v1_5: the padding string. */
  readonly padding?: string;
  /** OAEP. */
  readonly seed?: string;
  readonly data: string;
}

export interface VectorSignature {
  readonly scheme: SignatureScheme;
  readonly signer: string;
  readonly input: string;
  /** RSASSA-PSS. */
  readonly salt?: string;
  /** ECDSA. */
  readonly nonce?: string;
  readonly signature: string;
}

export interface VectorKeyMaterial {
  readonly type: "TGK" | "TGK+SALT" | "TEK" | "TEK+SALT";
  readonly key: string;
  readonly salt?: string;
  readonly spi?: string;
  readonly interval?: readonly [from: number, to: number];
}

export interface VectorSession {
  readonly csId: number;
  readonly policyNo: number;
  readonly ssrc: string;
  readonly roc: number;
  readonly seq?: number;
  readonly masterKeys: readonly {
    readonly spi?: string;
    readonly interval?: readonly [from: number, to: number];
    readonly tekLabel?: string;
    readonly tek: string;
    readonly saltLabel?: string;
    readonly salt: string;
  }[];
}

/** All files, in the order of the modes. */
export const vectorFiles: readonly VectorFile[] = ["psk", "pk", "dh", "dhhmac", "rsa-r", "private"].map((mode) => {
  const name = `mikey-${mode}.json`;
  return {
    name,
    ...(JSON.parse(readFileSync(new URL(`../vectors/${name}`, import.meta.url), "utf8")) as Omit<VectorFile, "name">),
  };
});

/** Every message with where it stands. */
export interface LocatedMessage {
  /** For test titles. */
  readonly title: string;
  readonly file: VectorFile;
  readonly vector: Vector;
  readonly exchange: VectorExchange;
  readonly from: "initiator" | "responder";
  readonly message: VectorMessage;
}

export const vectorMessages: readonly LocatedMessage[] = vectorFiles.flatMap((file) =>
  file.vectors.flatMap((vector) =>
    vector.exchanges.flatMap((exchange, index) =>
      (["iMessage", "rMessage", "errMessage"] as const).flatMap((which): LocatedMessage[] => {
        const message = exchange[which];
        if (message === undefined) return [];
        const title = `${vector.name}, ${exchange.kind === "initial" ? "" : `update ${index}, `}${which}`;
        return [{ title, file, vector, exchange, from: which === "iMessage" ? "initiator" : "responder", message }];
      }),
    ),
  ),
);
