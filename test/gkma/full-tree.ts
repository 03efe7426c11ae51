import { GKMA_NAMES, type GkmaName, type KeyTree, restoreKeyTree } from "../../src/gkma/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";

/**
 * A tree of 128-bit keys of version 1 whose every leaf somebody has, without the time that it takes to let a million members join: its keys
 * are numbers, each another one, as good as any where costs are counted or measured.
 */
export function fullTree(algorithm: GkmaName, degree: number, members: number): KeyTree {
  const internal = Math.max(1, Math.ceil((members - 1) / (degree - 1)));
  const nodes = members + internal;
  const snapshot = new Uint8Array(20 + nodes * 20);
  snapshot.set([1, GKMA_NAMES.indexOf(algorithm), degree, 16]);
  const view = new DataView(snapshot.buffer);
  view.setUint32(4, 1);
  view.setUint32(8, nodes);
  for (let id = 0; id < nodes; id++) {
    view.setUint32(20 + 4 * id, 1);
    view.setUint32(20 + 4 * nodes + 16 * id, id + 1);
  }
  return restoreKeyTree(nodeCrypto, snapshot);
}
