export * from "./contracts.js";
export { isWithin } from "./heap.js";
export { createKeyPath } from "./key-path.js";
export { createKeyTree, restoreKeyTree } from "./key-tree.js";
