export * from "./aes-circuit.js";
export * from "./assembler.js";
