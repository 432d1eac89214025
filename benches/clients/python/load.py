"""An open-loop load over redis-py or valkey-glide: load.py NAME --seeds host:port,… --rate N.

Each client as its documentation shows it, with its own defaults: what users have. The contract is in
benches/clients/README.md.
"""

import argparse
import asyncio
import os
import threading
import time

from contract import GRACE, Keys, Run, options

# Enough that threads wait for the schedule and not the other way round.
THREADS = 16


def redis_py(options: argparse.Namespace) -> None:
    import redis
    from redis.cluster import ClusterNode, RedisCluster

    client = RedisCluster(startup_nodes=[ClusterNode(host, int(port)) for host, port in options.seeds])
    keys = Keys(options.keys)
    for key in range(options.keys):
        client.set(Keys.name(key), 1)
    run = Run(options)

    def work() -> None:
        while True:
            phase, due = run.next()
            wait = run.wait_for(due)
            if wait > 0:
                time.sleep(wait)
            if run.stopped:
                return run.untake()
            write, key, version = keys.choose()
            try:
                if write:
                    client.set(Keys.name(key), version)
                    keys.acknowledge(key, version)
                else:
                    run.compare(client.get(Keys.name(key)), version)
                run.end(phase, due, None)
            except Exception as error:
                run.end(phase, due, error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    while not run.stopped:
        time.sleep(0.02)
    # Whoever has not come back by then is counted by what is missing.
    time.sleep(GRACE)
    run.report(f"redis-py {redis.__version__}")


async def over_asyncio(name: str, client, options: argparse.Namespace) -> None:
    """`client` has `set` and `get` that can be awaited by many at once."""
    keys = Keys(options.keys)
    for start in range(0, options.keys, 100):
        some = range(start, min(start + 100, options.keys))
        await asyncio.gather(*(client.set(Keys.name(key), "1") for key in some))
    run = Run(options)

    async def request(phase: int, due: float) -> None:
        write, key, version = keys.choose()
        try:
            if write:
                await client.set(Keys.name(key), str(version))
                keys.acknowledge(key, version)
            else:
                run.compare(await client.get(Keys.name(key)), version)
            run.end(phase, due, None)
        except Exception as error:
            run.end(phase, due, error)

    under_way: set[asyncio.Task] = set()
    phase, due = run.next()
    while not run.stopped:
        await asyncio.sleep(0.001)
        while run.wait_for(due) <= 0:
            task = asyncio.create_task(request(phase, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            phase, due = run.next()
    run.untake()
    await asyncio.sleep(GRACE)
    run.report(name)


async def redis_py_asyncio(options: argparse.Namespace, steps: int | None = None) -> None:
    """`steps` is its `reinitialize_steps`: at every so manieth MOVED it closes all connections, whoever uses them. 0: never."""
    import redis
    from redis.asyncio.cluster import ClusterNode, RedisCluster

    nodes = [ClusterNode(host, int(port)) for host, port in options.seeds]
    client = RedisCluster(startup_nodes=nodes, **({} if steps is None else {"reinitialize_steps": steps}))
    await client.initialize()
    set_up = "" if steps is None else f", reinitialize_steps={steps}"
    await over_asyncio(f"redis-py asyncio {redis.__version__}{set_up}", client, options)


async def valkey_glide(options: argparse.Namespace) -> None:
    from importlib.metadata import version

    from glide import GlideClusterClient, GlideClusterClientConfiguration, Logger, LogLevel, NodeAddress

    # It would log every redirection, on standard output.
    Logger.set_logger_config(LogLevel.OFF)
    addresses = [NodeAddress(host, int(port)) for host, port in options.seeds]
    client = await GlideClusterClient.create(GlideClusterClientConfiguration(addresses))
    await over_asyncio(f"valkey-glide {version('valkey-glide')} (Python)", client, options)


def main() -> None:
    asked = options()
    match asked.client:
        case "redis-py":
            redis_py(asked)
        case "redis-py-asyncio":
            asyncio.run(redis_py_asyncio(asked))
        case "redis-py-asyncio-steps-0":
            asyncio.run(redis_py_asyncio(asked, steps=0))
        case "valkey-glide":
            asyncio.run(valkey_glide(asked))
        case other:
            raise SystemExit(f"'{other}' is none of redis-py, redis-py-asyncio, redis-py-asyncio-steps-0, valkey-glide")


if __name__ == "__main__":
    try:
        main()
    finally:
        # The report is out; a client with requests that never end would not let the interpreter go.
        os._exit(0)
