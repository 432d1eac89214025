//! Evens memory: from the fullest node to the emptiest, the largest slot that does not turn the two around.
const std = @import("std");
const ballast = @import("ballast.zig");

comptime {
    _ = ballast.exports;
}

pub const panic = std.debug.FullPanic(ballast.panicked);

const Parameters = struct { threshold_percent: u32 = 110, max_moves: u32 = 100 };
const ranges = .{ .threshold_percent = .{ 100, 1000 }, .max_moves = .{ 1, 1000 } };
var parameters: Parameters = .{};

const schema =
    \\{"type":"object","additionalProperties":false,"properties":{
    \\"threshold-percent":{"type":"integer","minimum":100,"maximum":1000,"default":110},
    \\"max-moves":{"type":"integer","minimum":1,"maximum":1000,"default":100}}}
;

const needs: []const ballast.Text = &.{ballast.text("slot/bytes")};

pub fn describe() ballast.Description {
    return .{
        .name = ballast.text("even-memory"),
        .version = ballast.text("0.1.0"),
        .summary = ballast.text("moves slots from the fullest node to the emptiest until memory is even"),
        .needs = .of(needs),
        .parameters_schema = ballast.text(schema),
    };
}

pub fn configure(json: []const u8) !void {
    parameters = try ballast.readParameters(Parameters, ranges, json);
}

const Node = struct { load: f64 = 0, gets: bool, drains: bool, spent: bool };

pub fn plan() !ballast.Proposal {
    const bytes = ballast.slotMetric("bytes") orelse {
        ballast.explain("slot/bytes is not there yet", .{});
        return error.NotReady;
    };
    const told = ballast.nodes();
    const nodes = try ballast.arena.alloc(Node, told.len);
    for (told, nodes) |it, *node| {
        const drains = it.has("draining");
        const gets = !drains and !it.has("cordoned") and !it.has("loading") and !it.has("suspect");
        node.* = .{ .gets = gets, .drains = drains, .spent = drains };
    }
    const owners = ballast.owners();
    // No slot moves twice, and those in flight are as good as there.
    const moved = try ballast.arena.alloc(bool, owners.len);
    @memset(moved, false);
    for (ballast.inFlight()) |begun| {
        owners[begun.slot] = begun.target;
        moved[begun.slot] = true;
    }
    for (owners, bytes) |owner, size| {
        if (owner < nodes.len) nodes[owner].load += size;
    }
    if (emptiest(nodes) == null) return .{ .moves = .of(&.{}), .summary = ballast.text("no node can take slots"), .gauges = .of(&.{}) };

    var total: f64 = 0;
    var most: f64 = 0;
    var kept: f64 = 0;
    for (nodes) |node| {
        total += node.load;
        if (node.drains) continue;
        kept += 1;
        most = @max(most, node.load);
    }
    const fair = total / kept;
    const imbalance = if (fair > 0) most / fair else 1;

    var moves: std.ArrayList(ballast.Move) = .empty;
    // Draining nodes are emptied first, lowest slots first.
    for (owners, moved, bytes, 0..) |*owner, *done, size, slot| {
        const giver = owner.*;
        if (moves.items.len == parameters.max_moves) break;
        if (done.* or giver >= nodes.len or !nodes[giver].drains) continue;
        const taker = emptiest(nodes).?;
        nodes[giver].load -= size;
        nodes[taker].load += size;
        owner.* = taker;
        done.* = true;
        try moves.append(ballast.arena, .{ .slot = @intCast(slot), .target = taker, .reason = ballast.text("drain") });
    }
    const threshold: f64 = @floatFromInt(parameters.threshold_percent);
    while (moves.items.len < parameters.max_moves) {
        const giver = fullest(nodes) orelse break;
        const taker = emptiest(nodes).?;
        if (100 * nodes[giver].load <= threshold * fair) break;
        const half = (nodes[giver].load - nodes[taker].load) / 2;
        var best: ?usize = null;
        var best_bytes: f64 = 0;
        for (owners, moved, bytes, 0..) |owner, done, size, slot| {
            // Most slots are somebody else's: a branch that is foretold, where one condition of all would be computed in full.
            if (owner != giver) continue;
            if (done or size <= best_bytes or size > half) continue;
            best = slot;
            best_bytes = size;
        }
        const slot = best orelse {
            nodes[giver].spent = true;
            continue;
        };
        nodes[giver].load -= best_bytes;
        nodes[taker].load += best_bytes;
        owners[slot] = taker;
        moved[slot] = true;
        try moves.append(ballast.arena, .{ .slot = @intCast(slot), .target = taker, .reason = ballast.text("memory") });
    }
    const percent: u32 = @intFromFloat(imbalance * 100);
    const summary = ballast.print("moves: {d}; the fullest node holds {d}% of its fair share", .{ moves.items.len, percent });
    const gauges = try ballast.arena.dupe(ballast.Gauge, &.{.{ .name = ballast.text("imbalance"), .value = imbalance }});
    return .{ .moves = .of(moves.items), .summary = ballast.text(summary), .gauges = .of(gauges) };
}

/// Of the nodes that may get slots, the one with the least. Of equals, the first.
fn emptiest(nodes: []const Node) ?u32 {
    var least: ?u32 = null;
    for (nodes, 0..) |node, index| {
        if (node.gets and (least == null or node.load < nodes[least.?].load)) least = @intCast(index);
    }
    return least;
}

/// Of the nodes that are not spent, the one with the most. Of equals, the first.
fn fullest(nodes: []const Node) ?u32 {
    var most: ?u32 = null;
    for (nodes, 0..) |node, index| {
        if (!node.spent and (most == null or node.load > nodes[most.?].load)) most = @intCast(index);
    }
    return most;
}
