"""From ends of jobs to receivers: on real servers, each at least once, whoever is slow or dies."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from producer.control.webhooks.destinations import Destinations, parse_hosts
from producer.control.webhooks.dispatcher import Dispatcher, new_owner
from producer.control.webhooks.message import parse_secrets
from producer.control.webhooks.patience import WAITS_SECONDS
from producer.control.webhooks.sender import Attempt, Sender
from storage.queue.streams import JobStreams
from storage.queue.webhooks import (
    ASIDE,
    RETRYING,
    SENDERS,
    NotYet,
    Webhook,
    WebhookLetters,
    Webhooks,
    release,
)
from storage.redis.bounds import MAX_REPLY_BYTES
from storage.redis.connection import RedisError, connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.support.polling import until
from tests.support.stream_workers import DONE, Worker, new_streams
from tests.support.webhook_receiver import SECRET, Receiver, Slow, status

LEASE_SECONDS = 0.4
HOST_CONCURRENCY = 3


@dataclass
class Alarms:
    """Retries that are waited for, by entry: attempt and seconds."""

    set: dict[str, tuple[int, float]] = field(default_factory=dict)

    def later(self, entry: str, attempt: int, seconds: float) -> None:
        """Remember it."""
        self.set[entry] = (attempt, seconds)


class Post:
    """A queue on a real server, and senders for it."""

    def __init__(self, client: Any, keys: Keys, worker: Worker) -> None:
        self.client = client
        self.keys = keys
        self.alarms = Alarms()
        self.letters = WebhookLetters(client, keys=keys)
        self._worker = worker

    def end(self, url: str, *jobs: str) -> None:
        """Have jobs done that want it told there."""
        one = self._worker("one", 60)
        for job in jobs:
            self.client.xadd("emo:jobs", {"key": "a.wav", "job": job, "callback": url})
        while found := one.read(500):
            one.finish([(begun, DONE) for begun in one.begin(found)])

    @contextmanager
    def sending(self, *receivers: Receiver, **options: Any) -> Iterator[threading.Event]:
        """A sender that runs; it may reach those receivers, by any name of theirs."""
        hosts = ",".join(
            f"{name}:{each.port}" for each in receivers for name in ("127.0.0.1", "localhost")
        )
        judge = Destinations(parse_hosts(hosts or "nobody"), allow_http=True)
        sender = Sender(judge, parse_secrets(SECRET), timeout_seconds=options.pop("timeout", 5.0))
        owner = options.pop("owner", None) or new_owner()
        dispatcher = Dispatcher(
            Webhooks(self.client, keys=self.keys, owner=owner),
            **{
                "owner": owner,
                "send": sender.send,
                "retry_later": self.alarms.later,
                "concurrency": 8,
                "host_concurrency": HOST_CONCURRENCY,
                "lease_seconds": LEASE_SECONDS,
                **options,
            },
        )
        stopping = threading.Event()
        thread = threading.Thread(target=dispatcher.run, args=[stopping])
        thread.start()
        try:
            yield stopping
        finally:
            stopping.set()
            thread.join()

    def ring(self) -> None:
        """The time has come for all retries that are waited for."""
        due, self.alarms.set = self.alarms.set, {}
        for entry, (attempt, _) in due.items():
            assert release(self.client, self.keys, entry, attempt)

    def waiting(self) -> Counter[str]:
        """Who has how many, a sender's own name left out."""
        try:
            found = self.client.xinfo_consumers("emo:webhooks", SENDERS)
        except RedisError:
            return Counter()
        known = {one["name"].decode(): one["pending"] for one in found if one["pending"]}
        return Counter({name.partition(":")[0].partition("-")[0]: n for name, n in known.items()})

    @property
    def delivered(self) -> bool:
        """Whether nothing is left to do."""
        return not self.client.xlen("emo:webhooks")


@pytest.fixture
def post(client: Any, keys: Keys, worker: Worker) -> Post:
    """An empty one."""
    return Post(client, keys, worker)


def names(count: int, prefix: str = "job") -> list[str]:
    """So many job ids."""
    return [f"{prefix}-{number}" for number in range(count)]


def test_every_end_is_delivered_once(post: Post) -> None:
    """Those that were there before, and those that come; nothing stays behind."""
    with Receiver() as receiver:
        post.end(receiver.url(), *names(20, "before"))
        with post.sending(receiver):
            post.end(receiver.url(), *names(20, "after"))
            until(lambda: post.delivered)
        jobs = [message["data"]["job"] for message in receiver.got]
        assert sorted(jobs) == sorted([*names(20, "before"), *names(20, "after")])
        assert receiver.got[0]["type"] == "job.done"
        assert receiver.got[0]["data"]["label"] == "happy"
        assert receiver.wrong == []
    assert not post.waiting()
    assert post.client.xinfo_consumers("emo:webhooks", SENDERS) == []


def test_a_receiver_that_is_down_gets_them_when_it_is_back(post: Post) -> None:
    """By the same ids, each attempt with a signature of its own time."""
    with Receiver() as gone:
        port, url = gone.port, gone.url()
    post.end(url, *names(5))
    with capture_logs() as logs, post.sending(gone):
        for attempt in (2, 3):
            until(lambda: len(post.alarms.set) == 5)
            assert {waited for waited, _ in post.alarms.set.values()} == {attempt}
            until(lambda: post.waiting()[RETRYING] == 5)
            if attempt == 2:
                post.ring()
        with Receiver(port=port) as back:
            post.ring()
            until(lambda: post.delivered)
            assert sorted(back.ids) == sorted(f"{job}:1" for job in names(5))
            assert back.wrong == []
    failed = [line for line in logs if line["event"] == "webhook.failed"]
    assert len(failed) == 10
    assert {line["why"] for line in failed} == {"Connection refused"}
    assert all("callback" not in line for line in failed)


def test_a_receiver_with_faults_gets_them(post: Post) -> None:
    """500 for the first two requests of each, and 503 with a wish to be left in peace."""
    seen: Counter[str] = Counter()

    def faulty(handler: Any) -> None:
        seen[handler.headers["webhook-id"]] += 1
        times = seen[handler.headers["webhook-id"]]
        answers = {1: status(500), 2: status(503, Retry_After="900")}
        answers.get(times, status(204))(handler)

    with Receiver(faulty) as receiver, post.sending(receiver):
        post.end(receiver.url(), *names(4))
        until(lambda: post.waiting()[RETRYING] == 4)
        assert all(5 <= seconds < 10 for _, seconds in post.alarms.set.values())
        post.ring()
        until(lambda: len(post.alarms.set) == 4 and post.waiting()[RETRYING] == 4)
        assert all(900 <= seconds < 1000 for _, seconds in post.alarms.set.values())
        post.ring()
        until(lambda: post.delivered)
        assert set(seen.values()) == {3}


def test_a_slow_receiver_is_behind_itself_alone(post: Post) -> None:
    """Others do not wait for it, however much it has; and what was put aside for it is not lost."""
    slow = Slow()
    with Receiver(slow) as tortoise, Receiver() as hare, post.sending(tortoise, hare):
        post.end(tortoise.url(), *names(130, "slow"))
        until(lambda: post.waiting()[ASIDE.rstrip(":")] > 0)
        post.end(hare.url(), *names(60, "quick"))
        until(lambda: len(hare.got) == 60)
        until(lambda: slow.now == HOST_CONCURRENCY)
        assert tortoise.got == [] or len(tortoise.got) <= HOST_CONCURRENCY
        slow.let.set()
        until(lambda: post.delivered)
        assert slow.most == HOST_CONCURRENCY
        assert len(set(tortoise.ids)) == 130


def test_a_receiver_that_does_not_answer_in_time_is_tried_again(post: Post) -> None:
    """It may have had it: so it is told apart by its id."""
    slow = Slow()
    with Receiver(slow) as receiver, post.sending(receiver, timeout=0.2):
        post.end(receiver.url(), "job")
        until(lambda: post.waiting()[RETRYING])
        slow.let.set()
        post.ring()
        until(lambda: post.delivered)
        assert receiver.ids == ["job:1", "job:1"]


def test_what_a_dead_sender_held_is_anothers(post: Post) -> None:
    """A lease later; also what it had put aside."""
    with Receiver() as receiver:
        post.end(receiver.url(), *names(6))
        dead = Webhooks(post.client, keys=post.keys, owner="sender-dead")
        dead.create_group()
        assert len(dead.read(4, block_seconds=0.01)) == 4
        host = f"127.0.0.1:{receiver.port}"
        entries = [one.entry for one in dead.take("sender-dead", most=2)]
        post.client.xclaim("emo:webhooks", SENDERS, ASIDE + host, 0, entries, justid=True)
        with capture_logs() as logs, post.sending(receiver):
            until(lambda: post.delivered)
        assert sorted(receiver.ids) == sorted(f"{job}:1" for job in names(6))
        (told,) = (line for line in logs if line["event"] == "webhooks.reclaimed")
        assert (told["sender"], told["webhooks"]) == ("sender-dead", 2)


def test_what_was_given_to_a_sender_and_never_came_is_sent(post: Post) -> None:
    """The reply to its read was lost."""
    with Receiver() as receiver:
        post.end(receiver.url(), *names(3))
        me = Webhooks(post.client, keys=post.keys, owner="sender-me")
        me.create_group()
        me.read(3, block_seconds=0.01)
        with post.sending(receiver, owner="sender-me"):
            until(lambda: post.delivered)
        assert len(receiver.ids) == 3


def test_a_sender_that_lives_is_not_robbed(post: Post) -> None:
    """However long an attempt takes, and though another one looks for what was left."""
    slow = Slow()
    with Receiver(slow) as receiver, post.sending(receiver):
        post.end(receiver.url(), *names(10))
        until(lambda: slow.now == HOST_CONCURRENCY)
        with post.sending(receiver):
            ended = threading.Event()
            ended.wait(3 * LEASE_SECONDS)  # leases would have run out by then
            slow.let.set()
            until(lambda: post.delivered)
        assert sorted(receiver.ids) == sorted(f"{job}:1" for job in names(10))


def test_a_sender_that_stops_gives_back_what_it_has_not_begun(post: Post) -> None:
    """Another one takes it at once; and what is under way may end."""
    slow = Slow()
    with Receiver(slow) as receiver:
        post.end(receiver.url(), *names(20))
        with post.sending(receiver, lease_seconds=60) as stopping:
            until(lambda: slow.now == HOST_CONCURRENCY)
            stopping.set()
            until(lambda: post.waiting()["due"] == 20 - HOST_CONCURRENCY)
            slow.let.set()
        assert len(receiver.got) == HOST_CONCURRENCY
        with post.sending(receiver, lease_seconds=60):
            until(lambda: post.delivered)
        assert len(set(receiver.ids)) == len(receiver.ids) == 20


def test_after_a_day_it_is_given_up(post: Post) -> None:
    """It waits among the dead, with the reason, until somebody replays it."""
    with Receiver(status(500)) as receiver, post.sending(receiver):
        post.end(receiver.url(), "job")
        for _ in WAITS_SECONDS:
            until(lambda: post.waiting()[RETRYING])
            post.ring()
        until(lambda: len(post.letters) == 1)
        assert post.delivered
        (letter,) = post.letters.listed()
        assert (letter.reason, letter.attempts) == ("HTTP 500", str(len(WAITS_SECONDS) + 1))
        assert letter.fields["job"] == "job"
        receiver.answer = status(204)
        assert post.letters.replay([letter.entry, "1-1"]) == [True, False]
        until(lambda: post.delivered)
        assert len(post.letters) == 0
        assert set(receiver.ids) == {"job:1"}


def test_what_nobody_wants_or_nobody_may_call_is_given_up_at_once(post: Post) -> None:
    """410; hosts that are not allowed; and what somebody wrote into the stream by hand."""
    with Receiver(status(410)) as receiver, Receiver() as other, post.sending(receiver):
        post.end(receiver.url(), "unwanted")
        post.end(other.url(), "forbidden")
        post.client.xadd("emo:webhooks", {"job": "foreign", "callback": "file:///etc/passwd"})
        post.client.xadd("emo:webhooks", {"x": "y"})
        until(lambda: len(post.letters) == 4)
        reasons = {letter.fields.get("job", ""): letter.reason for letter in post.letters.listed()}
        assert reasons["unwanted"] == "HTTP 410"
        assert "EMO_WEBHOOK_HOSTS" in reasons["forbidden"]
        assert reasons["foreign"].startswith("refused: field 'callback'")
        assert reasons[""].startswith("refused: ")
        assert post.alarms.set == {}
        assert other.requests == []


def test_an_entry_that_is_too_large_holds_nobody_up(post: Post) -> None:
    """It is dropped unread; those beside it are delivered."""
    with Receiver() as receiver:
        post.end(receiver.url(), *names(3, "before"))
        post.client.xadd("emo:webhooks", {"callback": "x" * (MAX_REPLY_BYTES + 1)})
        post.end(receiver.url(), *names(3, "behind"))
        with post.sending(receiver):
            until(lambda: post.delivered)
        assert len(receiver.ids) == 6


def test_a_server_that_lost_all_is_worked_with_again(post: Post) -> None:
    """Its group is created anew."""
    with Receiver() as receiver, post.sending(receiver):
        post.end(receiver.url(), "first")
        until(lambda: receiver.ids == ["first:1"])
        post.client.flushall()
        post.end(receiver.url(), "second")
        until(lambda: receiver.ids == ["first:1", "second:1"])


def test_where_no_retry_can_be_scheduled_a_lease_tells(post: Post) -> None:
    """What the scheduler's server lost, or never had, is sent nonetheless."""

    def refuses(entry: str, attempt: int, seconds: float) -> None:
        raise ConnectionError("the scheduler is away")

    with Receiver(status(500)) as receiver, capture_logs() as logs:
        with post.sending(receiver, retry_later=refuses):
            post.end(receiver.url(), "job")
            until(lambda: len(receiver.ids) >= 2)
            receiver.answer = status(204)
            until(lambda: post.delivered)
        assert any(line["event"] == "webhooks.not_scheduled" for line in logs)


def test_what_a_scheduler_forgot_is_found(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits no longer than the longest wait there is."""
    monkeypatch.setattr("producer.control.webhooks.dispatcher._FORGOTTEN_SECONDS", 0.1)
    monkeypatch.setattr("producer.control.webhooks.dispatcher._SWEEP_SECONDS", 0.1)
    answers = iter([status(500)])

    def once_faulty(handler: Any) -> None:
        next(answers, status(204))(handler)

    with Receiver(once_faulty) as receiver:
        with post.sending(receiver):
            post.end(receiver.url(), "job")
            until(lambda: post.delivered)
        assert receiver.ids == ["job:1"] * 2


def test_a_retry_is_released_once_and_for_its_attempt_alone(post: Post) -> None:
    """A scheduler may say it twice, or of an attempt that has been made."""
    with Receiver(status(500)) as receiver:
        with post.sending(receiver):
            post.end(receiver.url(), "job")
            until(lambda: post.waiting()[RETRYING])
        ((entry, (attempt, _)),) = post.alarms.set.items()
        assert attempt == 2
        told = [release(post.client, post.keys, entry, count) for count in (1, 2, 2)]
        assert told == [False, True, False]
        with pytest.raises(NotYet):
            release(post.client, post.keys, entry, 3)
        assert not release(post.client, post.keys, "1-1", 1)


def test_a_fault_of_ours_is_a_failed_attempt(post: Post) -> None:
    """And not the end of the sender."""
    faults = iter([ValueError("ours")])

    def send(webhook: Webhook) -> Attempt:
        for fault in faults:
            raise fault
        return Attempt(True)

    with capture_logs() as logs, post.sending(send=send):
        post.end("http://127.0.0.1/", "job")
        until(lambda: post.waiting()[RETRYING])
        post.ring()
        until(lambda: post.delivered)
    assert any(line["event"] == "webhooks.failed" for line in logs)


def test_an_outage_of_redis_is_waited_for(keys: Keys, tmp_path: Path) -> None:
    """What was delivered meanwhile is said afterwards, and not sent again; it is told once."""
    slow = Slow()
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with (
        Receiver(slow) as receiver,
        EmbeddedRedis(tmp_path, options=options) as server,
        connect(server.url, name="test") as client,
    ):

        def worker(owner: str, lease_seconds: float) -> JobStreams:
            return new_streams(JobStreams, client, keys, owner, lease_seconds)

        post = Post(client, keys, worker)
        post.end(receiver.url(), "job")
        with capture_logs() as logs, post.sending(receiver, lease_seconds=60):
            until(lambda: slow.now == 1)
            server.kill()
            slow.let.set()
            until(lambda: any(line["event"] == "webhooks.away" for line in logs))
            server.start()
            until(lambda: any(line["event"] == "webhooks.back" for line in logs))
            until(lambda: post.delivered)
        assert receiver.ids == ["job:1"]
        assert [line["event"] for line in logs].count("webhooks.away") == 1
