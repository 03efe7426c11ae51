/**
 * A key server in a process of its own, which is there to be killed: it is called over IPC (calls.ts), and what it keeps is in files. It is
 * compiled output, so that a start takes no longer than a user's.
 */
import { join } from "node:path";
import { openGcks, readGroupDefinition } from "watchword/gcks";
import { nodeCrypto, openSqliteStore, systemClock, systemTimers } from "watchword/node";
import { createMemoryStore, openSealedStore, openWitnessedStore } from "watchword/store";

const SEALING_KEY = new Uint8Array(32).fill(7);
const ID_URI = 1;

const send = (message) => void process.send(message);

async function openStores(folder) {
  const [inside, outside] = await Promise.all(
    ["store.db", "witness.db"].map((name) => openSqliteStore({ path: join(folder, name) })),
  );
  const random = { bytes: (length) => nodeCrypto.randomBytes(length) };
  const store = await openSealedStore(await openWitnessedStore(inside, outside, { random }), SEALING_KEY);
  return { store, outside };
}

let gcks;
let regressed = false;
const sessions = new Map();

const calls = {
  async open({ folder, groups, identity, psk, signingKey, forgetful }) {
    const stores = forgetful
      ? { store: createMemoryStore({ clock: systemClock, timers: systemTimers }) }
      : await openStores(folder);
    regressed = stores.store.regression !== undefined;
    gcks = await openGcks({
      ...stores,
      clock: systemClock,
      timers: systemTimers,
      identity: { idType: ID_URI, data: identity },
      groups: groups.map((group) => readGroupDefinition(group)),
      findCredential: () => ({ psk }),
      signer: nodeCrypto.importPrivateKey(signingKey),
      multicast: (_address, octets) => send({ kind: "multicast", octets }),
    });
  },
  async register({ scope, iMessage }) {
    const { response, session } = await gcks.register({
      iMessage,
      scope,
      peer: { remote: { host: scope, port: 5060 } },
      secure: false,
      streams: 1,
      channel: {
        deliver: async (octets) => send({ kind: "deliver", scope, octets }),
        close: () => send({ kind: "closed", scope }),
      },
    });
    sessions.set(scope, session);
    return response;
  },
  receive: ({ scope, message }) => sessions.get(scope)?.receive(message),
  end: ({ scope, proof }) => sessions.get(scope)?.end(proof) ?? { verdict: "absent" },
  rekey: async ({ group }) => {
    await gcks.rekey(group);
    return gcks.groups.find(({ name }) => name === group).sequence;
  },
  replace: async ({ group }) => {
    await gcks.replace(group);
    return gcks.groups.find(({ name }) => name === group).sequence;
  },
  expel: ({ group, identity }) => gcks.expel(group, identity),
  view: () => ({ regressed, groups: gcks.groups.map((group) => ({ group, members: gcks.members(group.name) })) }),
};

process.on("message", async ({ id, call }) => {
  try {
    send({ kind: "result", id, value: await calls[call.op](call) });
  } catch (error) {
    send({ kind: "refused", id, code: error.code ?? "", text: String(error.message), reply: error.reply });
  }
});
process.on("disconnect", () => process.exit());
