import {
  acceptAll,
  type CiphersuiteImpl,
  type ClientState,
  createCommit,
  createGroup,
  decodeMlsMessage,
  defaultCapabilities,
  defaultLifetime,
  emptyPskIndex,
  encodeMlsMessage,
  generateKeyPackage,
  getCiphersuiteFromName,
  getCiphersuiteImpl,
  type Proposal,
  processMessage,
} from "ts-mls";
import { utf8 } from "../../src/bytes/index.js";
import type { GroupChange, GroupContender, GroupCost, GroupUnderTest } from "./gkma.js";

/** Beyond this a group takes minutes to make. */
const MOST_MEMBERS = 1024;
const SUITE = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519";

type Member = Awaited<ReturnType<typeof generateKeyPackage>>;

/**
 * MLS (RFC 9420) by ts-mls. It does more than a key tree: no server is trusted with keys, and the group heals after a compromise. The tree is warm, as MLS
 * has it best: every node beside the path of the member who makes the changes has a key.
 */
export const TS_MLS: GroupContender = {
  name: "ts-mls",
  make: async (members) => (members > MOST_MEMBERS ? undefined : MlsGroup.make(members)),
};

class MlsGroup implements GroupUnderTest {
  readonly memory = undefined;
  readonly rounds: number;
  readonly #suite: CiphersuiteImpl;
  readonly #members: number;
  /** Member 0, who makes the changes. */
  readonly #maker: ClientState;
  /** A member of the other half. */
  readonly #witness: ClientState;

  private constructor(suite: CiphersuiteImpl, members: number, maker: ClientState, witness: ClientState) {
    this.#suite = suite;
    this.#members = members;
    this.#maker = maker;
    this.#witness = witness;
    this.rounds = members >= 1024 ? 3 : 7;
  }

  static async make(members: number): Promise<MlsGroup> {
    const suite = await getCiphersuiteImpl(getCiphersuiteFromName(SUITE));
    const all: Member[] = [];
    for (let i = 0; i < members; i++) all.push(await newMember(suite, `member ${i}`));
    const [first, ...others] = all as [Member, ...Member[]];
    let state = await createGroup(utf8("group"), first.publicPackage, first.privatePackage, [], suite);
    const added = await createCommit({ state, cipherSuite: suite }, { extraProposals: others.map(addition) });
    state = added.newState;
    // One member of each subtree beside the path of member 0 updates its path.
    for (let index = 2; index < members; index *= 2) {
      const { newState } = await createCommit({ state: seenBy(state, index, all[index] as Member), cipherSuite: suite });
      state = newState;
    }
    return new MlsGroup(suite, members, seenBy(state, 0, first), state);
  }

  async measure(change: GroupChange): Promise<GroupCost | undefined> {
    const count = change === "1 % leave" ? Math.floor(this.#members / 100) : 1;
    if (change === "1 % leave" && count < 2) return undefined;
    const extraProposals =
      change === "join"
        ? [addition(await newMember(this.#suite, "another"))]
        : Array.from({ length: count }, (_, i): Proposal => ({ proposalType: "remove", remove: { removed: i + 1 } }));
    const cipherSuite = this.#suite;
    let since = performance.now();
    // The state before stays as it was, so that the next change is of the same group.
    const { commit } = await createCommit({ state: this.#maker, cipherSuite }, { extraProposals, wireAsPublicMessage: true });
    const octets = encodeMlsMessage(commit);
    const controller = performance.now() - since;
    since = performance.now();
    const message = decodeMlsMessage(octets, 0)?.[0];
    if (message?.wireformat !== "mls_public_message") throw new Error("a commit is a public message here");
    const result = await processMessage(message, this.#witness, emptyPskIndex, acceptAll, cipherSuite);
    const member = performance.now() - since;
    if (result.newState.groupContext.epoch !== this.#witness.groupContext.epoch + 1n) throw new Error("the commit was not taken");
    return { controller, octets: octets.length, member };
  }
}

function newMember(suite: CiphersuiteImpl, name: string): Promise<Member> {
  return generateKeyPackage({ credentialType: "basic", identity: utf8(name) }, defaultCapabilities(), defaultLifetime, [], suite);
}

function addition({ publicPackage }: Member): Proposal {
  return { proposalType: "add", add: { keyPackage: publicPackage } };
}

/** The group as another member has it who knows its own leaf alone: enough to make a commit. */
function seenBy(state: ClientState, index: number, { privatePackage }: Member): ClientState {
  return {
    ...state,
    privatePath: { leafIndex: index, privateKeys: { [2 * index]: privatePackage.hpkePrivateKey } } as ClientState["privatePath"],
    signaturePrivateKey: privatePackage.signaturePrivateKey,
  };
}
