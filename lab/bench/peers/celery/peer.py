"""Celery as a peer of bench/peers: the same lines in, the same lines out.

RabbitMQ is the broker: a durable classic queue (this Celery asks for a global prefetch, which
quorum queues refuse), persistent messages, each publication confirmed, each message acknowledged
when its task is over (acks_late). PostgreSQL is the result backend, with its fsync: so what is told
as enqueued or worked survives a loss of power, as with the others. A task is worked when the row of
its result says SUCCESS. Without a database no results are stored, as those who want speed set it:
then a task is worked when it has run, of which no record is left.

Three workers, as three nodes, and as many processes of producers as there are cores, since threads
of one Python share one core. All of them stand still (SIGSTOP) between rounds.

Celery has no call for many tasks: a batch is enqueued one by one.
"""

import ctypes
import json
import os
import queue
import signal
import struct
import sys
import threading
import time
import warnings

import psycopg2
from celery import Celery, signals

WORKERS = 3
CONCURRENCY = 2  # processes of each worker that run tasks: one may wait for a commit while another runs
SETTLE = 60.0  # seconds until all that was enqueued must be recorded
POLL = 0.01
IDLE = "celery-idle"  # the queue that nobody works
RUN = "q"  # what is told of a run: its latency in ns, by the machine's one clock


def die_with_parent(**_):
    """The kernel kills this process when its parent is gone, even if that is killed."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def app_queue(database):
    """The queue that is worked; the peer with a database and the one without may share a broker."""
    return "celery-results" if database else "celery-bare"


def make_app(broker, database, ran):
    """The application; its task tells of each run through the pipe ran."""
    backend = "db+" + database.replace("postgres://", "postgresql://", 1) if database else None
    app = Celery("bench", broker=broker, backend=backend)
    app.conf.update(
        broker_transport_options={"confirm_publish": True},
        broker_heartbeat=0,  # the broker must not drop those who stand still
        broker_pool_limit=64,
        task_publish_retry=False,  # what is not confirmed is an error, and not enqueued twice
        task_acks_late=True,
        task_ignore_result=not database,
        task_default_queue=app_queue(database),
        worker_prefetch_multiplier=64,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        task_serializer="json",
        result_serializer="json",
        result_expires=None,
    )

    @app.task(name="upper")
    def upper(text, sent):
        text = text.upper()
        os.write(ran, struct.pack(RUN, time.monotonic_ns() - sent))
        return text

    return app, upper


class Child:
    """A forked process, in a group of its own that is stopped and continued as one."""

    def __init__(self, main):
        down_r, down_w = os.pipe()
        up_r, up_w = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.setpgid(0, 0)
                die_with_parent()
                os.close(down_w)
                os.close(up_r)
                null = os.open(os.devnull, os.O_RDONLY)
                os.dup2(null, 0)
                os.dup2(2, 1)  # nobody but the parent answers
                main(os.fdopen(down_r), os.fdopen(up_w, "w"))
                status = 0
            except BaseException as e:  # whatever it is, this process must not go on as its parent
                print("celery peer:", repr(e), file=sys.stderr, flush=True)
            finally:
                os._exit(status)
        os.close(down_r)
        os.close(up_w)
        try:
            os.setpgid(self.pid, self.pid)
        except OSError:
            pass  # it has done so itself
        self.down, self.up = os.fdopen(down_w, "w"), os.fdopen(up_r)

    def tell(self, value):
        self.down.write(json.dumps(value) + "\n")
        self.down.flush()

    def hear(self):
        line = self.up.readline()
        if not line:
            raise RuntimeError("a process of the peer has ended")
        return json.loads(line)

    def signal(self, number):
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass


def worker(app, number):
    """The main function of a child that works tasks."""

    def main(_, up):
        signals.worker_process_init.connect(die_with_parent, weak=False)

        def ready(**_):
            up.write("true\n")
            up.flush()

        signals.worker_ready.connect(ready, weak=False)
        app.worker_main([
            "--quiet", "worker", "--hostname", f"node{number}@bench", "--concurrency", str(CONCURRENCY), "--loglevel", "ERROR",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ])

    return main


def producer(upper, first):
    """The main function of a child that enqueues. Its tasks are numbered from first on."""

    def main(down, up):
        numbers = iter(range(first, first + 1_000_000_000))
        for line in down:
            r = json.loads(line)
            answer = steady(upper, r, numbers) if r.get("rate") else flood(upper, r, numbers)
            up.write(json.dumps(answer) + "\n")
            up.flush()

    return main


def enqueue(upper, number, to):
    upper.apply_async((f"hola{number:012d}", time.monotonic_ns()), queue=to)


def flood(upper, r, numbers):
    """Enqueues from several threads, each as fast as it is confirmed."""
    counts, errors, lock = [], [], threading.Lock()
    end = time.monotonic() + r["for_ns"] / 1e9
    most = r.get("most") or 1 << 62

    def run():
        n = 0
        try:
            while time.monotonic() < end and n * r["producers"] < most:
                for _ in range(r["batch"]):
                    with lock:
                        number = next(numbers)
                    enqueue(upper, number, r["to"])
                    n += 1
        except Exception as e:
            errors.append(repr(e))
        counts.append(n)

    threads = [threading.Thread(target=run) for _ in range(r["producers"])]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return {"tasks": sum(counts), "error": errors[0] if errors else ""}


def steady(upper, r, numbers):
    """Enqueues so many tasks a second; one that is slow to be confirmed keeps no other from being sent."""
    due, errors, counts = queue.Queue(r["producers"]), [], []

    def run():
        n = 0
        while (number := due.get()) is not None:
            try:
                enqueue(upper, number, r["to"])
                n += 1
            except Exception as e:
                errors.append(repr(e))
        counts.append(n)

    threads = [threading.Thread(target=run) for _ in range(r["producers"])]
    for t in threads:
        t.start()
    at = time.monotonic()
    end = at + r["for_ns"] / 1e9
    while at < end:
        due.put(next(numbers))
        at += 1 / r["rate"]
        time.sleep(max(0, at - time.monotonic()))
    for _ in threads:
        due.put(None)
    for t in threads:
        t.join()
    return {"tasks": sum(counts), "error": errors[0] if errors else ""}


class Peer:
    def __init__(self, broker, database):
        self.told, ran = os.pipe()
        app, upper = make_app(broker, database, ran)
        if database:
            app.backend.ResultSession().close()  # makes the tables, before several would
        self.app = app
        cores = len(os.sched_getaffinity(0))
        self.producers = [Child(producer(upper, i * 1_000_000_000)) for i in range(cores)]
        self.workers = [Child(worker(app, i)) for i in range(WORKERS)]
        for w in self.workers:
            w.hear()
        self.db = psycopg2.connect(database) if database else None
        if self.db:
            self.db.autocommit = True
        self.runs = []  # the latencies of this round
        threading.Thread(target=self.listen, daemon=True).start()
        self.forget()
        self.rest()

    def listen(self):
        """Hears of each run, so that the pipe never fills."""
        size = struct.calcsize(RUN)
        while text := os.read(self.told, 1024 * size):  # whole, since each is written whole
            self.runs.extend(ns for (ns,) in struct.iter_unpack(RUN, text))

    def children(self):
        return self.producers + self.workers

    def rest(self):
        for c in self.children():
            c.signal(signal.SIGSTOP)

    def wake(self):
        for c in self.children():
            c.signal(signal.SIGCONT)

    def query(self, text):
        with self.db.cursor() as c:
            c.execute(text)
            return c.fetchone()[0]

    def finished(self, want):
        """How many are recorded as worked; the database is asked when all have run."""
        if len(self.runs) < want or not self.db:
            return len(self.runs)
        failed = self.query("SELECT count(*) FROM celery_taskmeta WHERE status NOT IN ('SUCCESS', 'STARTED', 'PENDING')")
        if failed:
            raise RuntimeError(f"{failed} tasks failed")
        return self.query("SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'")

    def forget(self):
        """Empties the table, as for River on PostgreSQL, and the queue that nobody works."""
        self.runs.clear()
        if self.db:
            with self.db.cursor() as c:
                c.execute("TRUNCATE celery_taskmeta")
        with self.app.connection_for_write() as connection:
            channel = connection.channel()
            channel.queue_declare(IDLE, durable=True, auto_delete=False)
            channel.queue_purge(IDLE)

    def settle(self, want):
        end = time.monotonic() + SETTLE
        while (now := self.finished(want)) != want:
            if now > want or time.monotonic() > end:
                raise RuntimeError(f"{now} tasks are recorded as worked, {want} were acknowledged")
            time.sleep(POLL)

    def round(self, r):
        # One process keeps a steady rate; as fast as it goes, all share the producers.
        crew = self.producers[:1] if r.get("rate") else self.producers[: r["producers"]]
        worked = r.get("work") or r.get("rate")
        began = time.monotonic_ns()
        for i, c in enumerate(crew):
            share = dict(r, to=self.app.conf.task_default_queue if worked else IDLE)
            share["producers"] = (r["producers"] + i) // len(crew)
            share["most"] = -(-r.get("most", 0) // len(crew))
            c.tell(share)
        answers = [c.hear() for c in crew]
        a = {"tasks": sum(x["tasks"] for x in answers)}
        for x in answers:
            if x["error"]:
                raise RuntimeError(x["error"])
        if worked:
            self.settle(a["tasks"])
        a["took_ns"] = time.monotonic_ns() - began
        if r.get("rate") and a["tasks"]:
            a.update(self.percentiles())
        self.forget()
        return a

    def percentiles(self):
        took = sorted(self.runs)
        return {"p50_ns": took[len(took) // 2], "p99_ns": took[len(took) * 99 // 100]}

    def close(self):
        for c in self.children():
            c.signal(signal.SIGKILL)
        for c in self.children():
            os.waitpid(c.pid, 0)


def main():
    warnings.simplefilter("ignore")  # such as that of running as root
    peer = Peer(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
    try:
        print("ready", flush=True)
        for line in sys.stdin:
            peer.wake()
            try:
                answer = peer.round(json.loads(line))
            except Exception as e:
                answer = {"tasks": 0, "took_ns": 0, "error": repr(e)}
            peer.rest()
            print(json.dumps(answer), flush=True)
    finally:
        peer.close()


main()
