"""What is asked of a load program, and what it answers: benches/clients/README.md."""

import argparse
import json
import sys
import threading
import time

PHASES = ("quiet", "moving", "after")

# How long the requests under way at the end may take. What is not answered by then counts as unanswered.
GRACE = 2.0

# The client has recovered if so much of what was due in the last five seconds was answered well.
WELL = 0.99
LAST = 5.0

# One request in so many writes.
WRITE_EVERY = 4


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("client")
    parser.add_argument("--seeds", required=True, type=lambda text: [tuple(seed.rsplit(":", 1)) for seed in text.split(",")])
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--keys", type=int, default=20_000)
    return parser.parse_args()


class Keys:
    """The keys, and which version of each was last acknowledged."""

    def __init__(self, count: int) -> None:
        self.acknowledged = [1] * count
        # A write is under way, or one came to an unknown end and may yet arrive: versions would not rise one by one.
        self.closed = [False] * count
        self.lock = threading.Lock()
        self.turn = 0

    @staticmethod
    def name(key: int) -> str:
        return f"client:{key}"

    def choose(self) -> tuple[bool, int, int]:
        """Whether to write, which key, and the version to write or the least to be read."""
        with self.lock:
            turn = self.turn
            self.turn += 1
            # Multiplying by a large odd number scatters neighbours; the high bits are the scattered ones.
            key = ((turn * 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> 20) % len(self.acknowledged)
            if turn % WRITE_EVERY == 0 and not self.closed[key]:
                self.closed[key] = True
                return True, key, self.acknowledged[key] + 1
            return False, key, self.acknowledged[key]

    def acknowledge(self, key: int, version: int) -> None:
        """A write was acknowledged. One that was not keeps its key from being written again."""
        with self.lock:
            self.acknowledged[key] = version
            self.closed[key] = False


class Run:
    """Whose turn it is, and what became of it all. Shared by everybody who sends."""

    def __init__(self, options: argparse.Namespace) -> None:
        print("ready", flush=True)
        self.rate = options.rate
        self.seconds = options.seconds
        self.begun = time.monotonic()
        self.phase = 0
        self.sent = 0
        self.stopped = False
        self.done: list[tuple[int, float, float, bool]] = []
        self.errors: dict[str, int] = {}
        # What the first of them said, for people.
        self.complaint: str | None = None
        self.lost = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        if self.seconds is not None:
            time.sleep(self.seconds)
        else:
            for line in sys.stdin:
                word, _, name = line.strip().partition(" ")
                if word == "phase" and name in PHASES:
                    self.phase = PHASES.index(name)
        self.stopped = True

    def next(self) -> tuple[int, float]:
        """Takes the next request of the schedule: its phase, and when it is due."""
        with self.lock:
            due = self.sent / self.rate
            self.sent += 1
            return self.phase, due

    def untake(self) -> None:
        """Gives back a request that was taken and never sent."""
        with self.lock:
            self.sent -= 1

    def wait_for(self, due: float) -> float:
        """Seconds until then: not above zero when it is late."""
        return self.begun + due - time.monotonic()

    def compare(self, seen: bytes | None, acknowledged: int) -> None:
        """Counts a lost write when a read shows less than was acknowledged before it."""
        if seen is None or int(seen) < acknowledged:
            self.lost += 1

    def end(self, phase: int, due: float, error: BaseException | None) -> None:
        """A request has come to an end. Its phase is the one in which it was due."""
        self.done.append((phase, due, time.monotonic() - self.begun, error is None))
        if error is not None:
            kind = type(error).__name__
            with self.lock:
                self.errors[kind] = self.errors.get(kind, 0) + 1
                self.complaint = self.complaint or str(error)

    def report(self, client: str) -> None:
        """Prints the report, in one line."""
        done, sent = list(self.done), self.sent
        well = [(phase, due, ended) for phase, due, ended, fine in done if fine]
        last_due = sent / self.rate
        start = max(0.0, last_due - LAST)
        lately = sum(1 for _, due, _ in well if due >= start)
        ends = sorted([0.0, last_due, *(ended for _, _, ended in well)])
        report = {
            "client": client,
            "requests": sent,
            "answered_well": len(well),
            "errors": self.errors,
            "complaint": self.complaint,
            "unanswered": sent - len(done),
            "stall_ms": 1000 * max(after - before for before, after in zip(ends, ends[1:])),
            "latency_max_ms": 1000 * max((ended - due for _, due, ended in well), default=0.0),
            "phases": {name: of_phase(well, phase) for phase, name in enumerate(PHASES)},
            "recovered": lately >= (last_due - start) * self.rate * WELL,
            "lost": self.lost,
        }
        print(json.dumps(report), flush=True)


def of_phase(well: list[tuple[int, float, float]], phase: int) -> dict[str, float | int | None]:
    latencies = sorted(1000 * (ended - due) for of, due, ended in well if of == phase)

    def at(part: float) -> float | None:
        return latencies[min(int(len(latencies) * part), len(latencies) - 1)] if latencies else None

    return {"requests": len(latencies), "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999), "max_ms": at(1.0)}
