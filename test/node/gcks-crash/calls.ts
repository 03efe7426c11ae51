/** What the parent and the key server's process (server.js) say to each other. */
import type { GroupView, MemberView } from "../../../src/gcks/index.js";
import type { ProofVerdict } from "../../../src/gsa/index.js";

export type Call =
  | {
      readonly op: "open";
      readonly folder: string;
      readonly groups: readonly unknown[];
      /** URI of the key server, as octets; the pre-shared key of everybody; the key that signs, as PKCS #8. */
      readonly identity: Uint8Array;
      readonly psk: Uint8Array;
      readonly signingKey: Uint8Array;
      /** Keeps everything in memory alone: what it acknowledges is lost. */
      readonly forgetful: boolean;
    }
  /** `scope`: the dialog. */
  | { readonly op: "register"; readonly scope: string; readonly iMessage: Uint8Array }
  | { readonly op: "receive"; readonly scope: string; readonly message: Uint8Array }
  | { readonly op: "end"; readonly scope: string; readonly proof: Uint8Array | undefined }
  | { readonly op: "rekey" | "replace"; readonly group: string }
  | { readonly op: "expel"; readonly group: string; readonly identity: string }
  | { readonly op: "view" };

/** What the key server says of itself. */
export interface ServerView {
  /** The store lacks something that it acknowledged. */
  readonly regressed: boolean;
  readonly groups: readonly { readonly group: GroupView; readonly members: readonly MemberView[] }[];
}

/** What comes back; of `rekey` and `replace` the new sequence. */
export interface Results {
  readonly open: undefined;
  readonly register: Uint8Array;
  readonly receive: Uint8Array | undefined;
  readonly end: { readonly verdict: ProofVerdict; readonly acknowledgement?: Uint8Array };
  readonly rekey: number;
  readonly replace: number;
  readonly expel: number;
  readonly view: ServerView;
}

export type Answer =
  | { readonly kind: "result"; readonly id: number; readonly value: unknown }
  | {
      readonly kind: "refused";
      readonly id: number;
      readonly code: string;
      readonly text: string;
      readonly reply: Uint8Array | undefined;
    };

/** What it sends to members. */
export type Sent =
  | { readonly kind: "multicast"; readonly octets: Uint8Array }
  | { readonly kind: "deliver"; readonly scope: string; readonly octets: Uint8Array }
  | { readonly kind: "closed"; readonly scope: string };
