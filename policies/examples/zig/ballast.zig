//! What a policy in Zig needs of the contract (wit/policy.wit, world slot-policy), by hand.
//!
//! The root file defines `describe`, `configure` and `plan`, and says `comptime { _ = ballast.exports; }`. Whatever is asked,
//! allocated with `arena` or answered lives until the call ends; nothing is freed by hand.
const std = @import("std");
const policy = @import("root");

/// As they lie in memory: a pointer and a length. The pointer of an empty list is never followed.
pub fn List(comptime T: type) type {
    return extern struct {
        at: [*]T,
        len: usize,

        pub fn of(all: []const T) @This() {
            return .{ .at = @constCast(all.ptr), .len = all.len };
        }

        pub fn slice(list: @This()) []T {
            return if (list.len == 0) &.{} else list.at[0..list.len];
        }
    };
}

pub const Text = List(u8);
pub const text = Text.of;

pub const Node = extern struct {
    id: Text,
    address: Text,
    zone: Text,
    tags: List(Text),

    pub fn has(node: Node, tag: []const u8) bool {
        for (node.tags.slice()) |it| if (std.mem.eql(u8, it.slice(), tag)) return true;
        return false;
    }
};
pub const Move = extern struct { slot: u16, target: u32, reason: Text };
pub const Gauge = extern struct { name: Text, value: f64 };
pub const Proposal = extern struct { moves: List(Move), summary: Text, gauges: List(Gauge) };
pub const Description = extern struct { name: Text, version: Text, summary: Text, needs: List(Text), parameters_schema: Text };
/// Other errors of `plan` are the contract's `internal`, by their name; `explain` adds words.
pub const Failure = error{ BadParameters, NotReady };
pub const Level = enum(u32) { debug, info, warn, err };

var memory: std.heap.ArenaAllocator = .init(std.heap.wasm_allocator);
pub const arena = memory.allocator();

var why: []const u8 = "";

/// Words for the error that the caller is about to return.
pub fn explain(comptime format: []const u8, values: anytype) void {
    why = print(format, values);
}

pub fn print(comptime format: []const u8, values: anytype) []const u8 {
    return std.fmt.allocPrint(arena, format, values) catch @trap();
}

const cluster = struct {
    extern "ballast:policy/cluster@0.1.0" fn @"taken-at-ms"() u64;
    extern "ballast:policy/cluster@0.1.0" fn @"window-s"() u32;
    extern "ballast:policy/cluster@0.1.0" fn generation() u64;
    extern "ballast:policy/cluster@0.1.0" fn nodes(answer: *List(Node)) void;
    extern "ballast:policy/cluster@0.1.0" fn owners(answer: *List(u32)) void;
    extern "ballast:policy/cluster@0.1.0" fn @"slot-metric"(at: [*]const u8, len: usize, answer: *Maybe) void;
    extern "ballast:policy/cluster@0.1.0" fn @"node-metric"(at: [*]const u8, len: usize, answer: *Maybe) void;
    extern "ballast:policy/cluster@0.1.0" fn @"in-flight"(answer: *List(Move)) void;
};
extern "ballast:policy/search@0.1.0" fn solve(at: [*]const u8, len: usize, answer: *Solved) void;
extern "ballast:policy/log@0.1.0" fn log(level: u32, at: [*]const u8, len: usize) void;
const Maybe = extern struct { is_some: u8, column: List(f64) };
const Solved = extern struct { is_error: u8, first: List(Move), report: Text };

pub const takenAtMs = cluster.@"taken-at-ms";
pub const windowS = cluster.@"window-s";
pub const generation = cluster.generation;

fn ask(comptime T: type, question: anytype) []T {
    var answer: List(T) = undefined;
    question(&answer);
    return answer.slice();
}

pub fn nodes() []Node {
    return ask(Node, cluster.nodes);
}

pub fn owners() []u32 {
    return ask(u32, cluster.owners);
}

pub fn inFlight() []Move {
    return ask(Move, cluster.@"in-flight");
}

/// A column by slot; null if the daemon has none of this name.
pub fn slotMetric(name: []const u8) ?[]f64 {
    var answer: Maybe = undefined;
    cluster.@"slot-metric"(name.ptr, name.len, &answer);
    return if (answer.is_some != 0) answer.column.slice() else null;
}

/// A column by node; null if the daemon has none of this name.
pub fn nodeMetric(name: []const u8) ?[]f64 {
    var answer: Maybe = undefined;
    cluster.@"node-metric"(name.ptr, name.len, &answer);
    return if (answer.is_some != 0) answer.column.slice() else null;
}

/// The daemon's planning library: moves and a report in JSON.
pub fn search(goals: []const u8) error{Refused}!struct { moves: []Move, report: []const u8 } {
    var answer: Solved = undefined;
    solve(goals.ptr, goals.len, &answer);
    if (answer.is_error != 0) {
        // The text of the error lies where the moves would.
        explain("{s}", .{@as([*]u8, @ptrCast(answer.first.at))[0..answer.first.len]});
        return error.Refused;
    }
    return .{ .moves = answer.first.slice(), .report = answer.report.slice() };
}

pub fn write(level: Level, message: []const u8) void {
    log(@backingInt(level), message.ptr, message.len);
}

/// A panic is a bare trap otherwise: say `pub const panic = std.debug.FullPanic(ballast.panicked);` in the root file.
pub fn panicked(message: []const u8, _: ?usize) noreturn {
    write(.err, message);
    @trap();
}

/// Parameters that are whole numbers: each field of `T` is a `u32` with a default, and `ranges` has its least and most.
/// Keys are written with hyphens.
pub fn readParameters(comptime T: type, comptime ranges: anytype, json: []const u8) error{BadParameters}!T {
    const written = std.json.parseFromSliceLeaky(std.json.Value, arena, json, .{}) catch return refuse("parameters: give one JSON object", .{});
    if (written != .object) return refuse("parameters: give one JSON object", .{});
    var parameters: T = .{};
    var entries = written.object.iterator();
    next: while (entries.next()) |entry| {
        const key, const value = .{ entry.key_ptr.*, entry.value_ptr.* };
        inline for (comptime std.meta.fieldNames(T)) |field| {
            if (std.mem.eql(u8, key, comptime hyphens(field))) {
                const least, const most = @field(ranges, field);
                if (value != .integer or value.integer < least or value.integer > most)
                    return refuse("{s}: give a whole number from {d} to {d}", .{ key, least, most });
                @field(parameters, field) = @intCast(value.integer);
                continue :next;
            }
        }
        return refuse("unknown parameter '{s}': there are {s}", .{ key, comptime names(T) });
    }
    return parameters;
}

fn refuse(comptime format: []const u8, values: anytype) error{BadParameters} {
    explain(format, values);
    return error.BadParameters;
}

fn hyphens(comptime field: []const u8) []const u8 {
    var name: [field.len]u8 = field[0..field.len].*;
    for (&name) |*letter| letter.* = if (letter.* == '_') '-' else letter.*;
    const done = name;
    return &done;
}

fn names(comptime T: type) []const u8 {
    var all: []const u8 = "";
    for (std.meta.fieldNames(T)) |field| all = all ++ (if (all.len > 0) " and " else "") ++ hyphens(field);
    return all;
}

/// The contract's side. What is more than one number is returned by address, and read before the next call.
pub const exports = struct {
    const Result = extern struct { is_error: u32, body: extern union { proposal: Proposal, failure: extern struct { kind: u32, why: Text }, why: Text } };
    var description: Description = undefined;
    var result: Result = undefined;

    fn describe() callconv(.c) *Description {
        description = policy.describe();
        return &description;
    }

    fn configure(at: [*]const u8, len: usize) callconv(.c) *Result {
        result = .{ .is_error = 0, .body = undefined };
        policy.configure(at[0..len]) catch |failure| {
            result = .{ .is_error = 1, .body = .{ .why = text(words(failure)) } };
        };
        return &result;
    }

    fn plan() callconv(.c) *Result {
        result = if (policy.plan()) |proposal| .{ .is_error = 0, .body = .{ .proposal = proposal } } else |failure| .{
            .is_error = 1,
            .body = .{ .failure = .{
                .kind = if (failure == error.BadParameters) 0 else if (failure == error.NotReady) 1 else 2,
                .why = text(words(failure)),
            } },
        };
        return &result;
    }

    fn words(failure: anyerror) []const u8 {
        return if (why.len > 0) why else @errorName(failure);
    }

    fn post(_: u32) callconv(.c) void {
        why = "";
        _ = memory.reset(.free_all);
    }

    fn realloc(old: ?[*]u8, old_len: usize, alignment: usize, len: usize) callconv(.c) ?[*]u8 {
        _ = alignment;
        // An allocation of nothing would lie at the end of all memory, which the daemon refuses.
        const fresh = arena.alignedAlloc(u8, .@"8", @max(len, 1)) catch @trap();
        if (old) |there| @memcpy(fresh[0..@min(old_len, len)], there[0..@min(old_len, len)]);
        return fresh.ptr;
    }

    comptime {
        @export(&realloc, .{ .name = "cabi_realloc" });
        const functions = .{ .describe = &describe, .configure = &configure, .plan = &plan };
        for (std.meta.fieldNames(@TypeOf(functions))) |name| {
            @export(@field(functions, name), .{ .name = "ballast:policy/policy@0.1.0#" ++ name });
            @export(&post, .{ .name = "cabi_post_ballast:policy/policy@0.1.0#" ++ name });
        }
    }
};
