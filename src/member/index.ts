export * from "./contracts.js";
export { createGroupMember, type GroupMemberOptions, type GroupToJoin } from "./member.js";
