export * from "./contracts.js";
export { createGroupMember, type GroupMemberOptions, type GroupToJoin, type UnicastOptions } from "./member.js";
