"""Runs ballast-lifecycle beside stand-ins: of `aws`, which records what it is told; of `ballast drain`, which ends with the
code that the story says; and of the daemon's HTTP answers, in its own words.

    python3 -m unittest discover deploy/aws
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

SCRIPT = Path(__file__).with_name("ballast-lifecycle")
# A round takes a second. Nothing here needs more than a few.
SECONDS_MAX = 60

AWS = '''#!{python}
import json, sys
from pathlib import Path
home = Path("{home}")
words = sys.argv[1:]
with open(home / "calls", "a") as calls:
    calls.write(json.dumps(words) + "\\n")
world = json.loads((home / "world").read_text())
command = " ".join(words[:2])
if command == "autoscaling describe-lifecycle-hooks":
    print(json.dumps({{"LifecycleHooks": [world["hook"]]}}))
elif command == "autoscaling describe-auto-scaling-groups":
    done = [line for line in (home / "calls").read_text().splitlines() if "complete-lifecycle-action" in line]
    left = [it for it in world["instances"] if not any(f'"{{it}}"' in line for line in done)]
    instances = [{{"InstanceId": it, "LifecycleState": "Terminating:Wait"}} for it in left]
    instances.append({{"InstanceId": "i-2", "LifecycleState": "InService"}})
    print(json.dumps({{"AutoScalingGroups": [{{"Instances": instances, **world["group"]}}]}}))
elif command == "ec2 describe-instances":
    print(json.dumps(["10.0.0.4" if "i-1" in words else "10.0.0.5"]))
'''

BALLAST = '''#!{python}
import json, sys, time
from pathlib import Path
home = Path("{home}")
with open(home / "drains", "a") as drains:
    drains.write(json.dumps(sys.argv[1:]) + "\\n")
turn = len((home / "drains").read_text().splitlines()) - 1
story = json.loads((home / "world").read_text())["drains"]
lasts, code = story[min(turn, len(story) - 1)]
time.sleep(lasts)
sys.exit(code)
'''

HOOK = {"LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING", "DefaultResult": "ABANDON", "HeartbeatTimeout": 3600}
KEPT = {"InstanceLifecyclePolicy": {"RetentionTriggers": {"TerminateHookAbandon": "retain"}}}
LOCKED = (401, "show a token: 'Authorization: Bearer TOKEN'")
GONE = (200, "it is no member of the cluster")
REPLICA = (200, "it is a replica whose primary has others, or no slots")
LAST_REPLICA = (409, "it is the only replica of 10.0.0.1:6379, whose slots would be lost with it")
LOADED = (409, "it owns 4096 slots: `ballast drain 10.0.0.4:6379` empties it")
LEFT = [{"event": "left", "address": "10.0.0.4:6379"}]
LEAVING = (409, "it is empty, and the cluster forgets it in a moment")


class Daemon(HTTPServer):
    """Answers about terminable nodes as src/http/nodes.rs does: one answer after the other, the last one for ever; to whoever
    shows the token, if it has one."""

    def __init__(self, answers, token, events):
        super().__init__(("127.0.0.1", 0), Asked)
        self.answers, self.token, self.events, self.paths = list(answers), token, events, []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Asked(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.paths.append(self.path)
        answers = self.server.answers
        if "/events" in self.path:
            body = json.dumps({"apiVersion": "ballast/v1", "kind": "Events", "items": self.server.events}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)
            return
        if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            code, words = LOCKED
        else:
            code, words = answers.pop(0) if len(answers) > 1 else answers[0]
        kind = {"kind": "Terminable", "terminable": True, "reason": words} if code == 200 else {"kind": "Error", "error": words}
        body = json.dumps({"apiVersion": "ballast/v1", **kind}).encode()
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Ended:
    """What came of a run."""

    def __init__(self, code, said, calls, drains, paths):
        self.code, self.said, self.drains, self.paths = code, said, drains, paths
        self.heartbeats = [call for call in calls if "record-lifecycle-action-heartbeat" in call]
        completed = [call for call in calls if "complete-lifecycle-action" in call]
        self.results = [call[call.index("--lifecycle-action-result") + 1] for call in completed]
        self.instances = [call[call.index("--instance-id") + 1] for call in completed]


def run(
    drains=((0, 0),), answers=(GONE,), hook=HOOK, group=KEPT, options=(), token=None, instances=("i-1",), events=(), once=True, seconds=SECONDS_MAX
) -> Ended:
    with tempfile.TemporaryDirectory() as scratch:
        home, daemon = Path(scratch), Daemon(answers, token, list(events))
        (home / "world").write_text(json.dumps({"hook": hook, "group": group, "drains": drains, "instances": instances}))
        (home / "calls").touch()
        (home / "drains").touch()
        for name, text in (("aws", AWS), ("ballast", BALLAST)):
            (home / name).write_text(text.format(python=sys.executable, home=home))
            (home / name).chmod(0o755)
        url = f"http://127.0.0.1:{daemon.server_port}"
        command = [sys.executable, SCRIPT, "--group", "valkey", "--hook", "drain", "--url", url, "--every", "1s", *options]
        command += ["--once"] if once else []
        if token:
            (home / "token").write_text(f"{token} lifecycle\n")
            command += ["--token-file", home / "token"]
        environment = {**os.environ, "PATH": f"{home}:{os.environ['PATH']}", "BALLAST_TOKEN_FILE": ""}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired as late:
            done = subprocess.CompletedProcess(command, None, "", (late.stderr or b"").decode())
        finally:
            daemon.shutdown()
            daemon.server_close()
        lines = {name: [json.loads(line) for line in (home / name).read_text().splitlines()] for name in ("calls", "drains")}
        return Ended(done.returncode, done.stderr, lines["calls"], lines["drains"], daemon.paths)


class Lifecycle(unittest.TestCase):
    def test_continues_once_the_node_is_drained_and_terminable(self):
        ended = run(answers=(LEAVING, GONE))
        self.assertEqual((ended.code, ended.results, ended.instances), (0, ["CONTINUE"], ["i-1"]), ended.said)
        self.assertEqual(ended.drains[0][:4], ["drain", "10.0.0.4:6379", "--forget", "--wait"])
        self.assertEqual(ended.paths, ["/api/v1/nodes/10.0.0.4:6379/terminable"] * 2)

    def test_sends_heartbeats_while_the_drain_lasts(self):
        # A third of three seconds each; the drain takes four.
        ended = run(drains=((4, 0),), hook={**HOOK, "HeartbeatTimeout": 3})
        self.assertGreaterEqual(len(ended.heartbeats), 3, ended.said)
        self.assertEqual(ended.results, ["CONTINUE"], ended.said)

    def test_abandons_what_is_not_empty_when_patience_ends(self):
        ended = run(drains=((30, 5),), answers=(LOADED,), options=("--patience", "2s"))
        self.assertEqual(ended.results, ["ABANDON"], ended.said)
        self.assertIn("patience is at its end", ended.said)

    def test_never_continues_while_the_daemon_says_no(self):
        ended = run(answers=(LOADED,), options=("--patience", "2s"))
        self.assertEqual(ended.results, ["ABANDON"], ended.said)
        self.assertIn("it owns 4096 slots", ended.said)

    def test_of_two_replicas_the_second_waits_until_the_first_is_seen_to_be_gone(self):
        ended = run(drains=((0, 2),), answers=(REPLICA,), instances=("i-1", "i-3"), once=False, seconds=6)
        self.assertEqual(ended.results, ["CONTINUE"], ended.said)

    def test_continues_when_it_was_started_anew_after_the_node_had_left(self):
        ended = run(drains=((0, 2),), answers=(GONE,), events=LEFT)
        self.assertEqual(ended.results, ["CONTINUE"], ended.said)

    def test_abandons_when_the_rest_could_not_bear_it(self):
        ended = run(drains=((0, 2),), answers=(LOADED,))
        self.assertEqual(ended.results, ["ABANDON"], ended.said)

    def test_abandons_a_node_that_the_cluster_does_not_know_though_it_is_called_terminable(self):
        ended = run(drains=((0, 2),), answers=(GONE,))
        self.assertEqual(ended.results, ["ABANDON"], ended.said)
        self.assertIn("no member", ended.said)

    def test_lets_a_replica_go_unless_it_is_the_only_one(self):
        self.assertEqual(run(drains=((0, 2),), answers=(REPLICA,)).results, ["CONTINUE"])
        self.assertEqual(run(drains=((0, 2),), answers=(LAST_REPLICA,)).results, ["ABANDON"])

    def test_asks_again_after_the_daemon_was_away(self):
        ended = run(drains=((0, 1), (0, 0)))
        self.assertEqual((len(ended.drains), ended.results), (2, ["CONTINUE"]), ended.said)

    def test_decides_nothing_while_it_is_not_let_in_however_long_that_takes(self):
        # Each attempt takes two rounds: the last one is after the patience of the beginning.
        ended = run(drains=((0, 6), (0, 6), (0, 6), (0, 0)), options=("--patience", "5s"))
        self.assertEqual((len(ended.drains), ended.results), (4, ["CONTINUE"]), ended.said)
        self.assertEqual(ended.said.count("no access"), 3, ended.said)

    def test_shows_its_token_for_the_drain_and_for_the_question_whether_the_node_may_go(self):
        ended = run(token="0123456789abcdef")
        self.assertEqual(ended.results, ["CONTINUE"], ended.said)
        shown = ended.drains[0][ended.drains[0].index("--token-file") + 1]
        self.assertEqual(Path(shown).name, "token")

    def test_decides_nothing_while_the_daemon_asks_for_a_token(self):
        for drained in (0, 2):
            ended = run(drains=((0, drained),), answers=(LOCKED, REPLICA))
            self.assertEqual(ended.results, ["CONTINUE"], ended.said)
            self.assertIn("the daemon answers 401", ended.said)

    def test_does_not_start_where_an_abandoned_instance_would_be_ended(self):
        for wrong in ({"group": {}}, {"hook": {**HOOK, "DefaultResult": "CONTINUE"}}):
            ended = run(**wrong)
            self.assertEqual((ended.code, ended.results, ended.drains), (2, [], []), ended.said)


if __name__ == "__main__":
    unittest.main()
