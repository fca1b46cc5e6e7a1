"""Senders that die, stop, lapse or meet what nobody expected: nothing is lost of it."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from producer.control.webhooks.sender import Attempt
from storage.queue.streams import JobStreams
from storage.queue.webhooks import ASIDE, RETRYING, SENDERS, NotYet, Webhook, Webhooks, release
from storage.redis.bounds import MAX_REPLY_BYTES
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.stream_workers import DAY_MS, new_streams
from tests.support.webhook_post import HOST_CONCURRENCY, Post, names
from tests.support.webhook_receiver import Receiver, Slow, status


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
        told = [line for line in logs if line["event"] == "webhooks.reclaimed"]
        assert [each["webhooks"] for each in told if each["sender"] == "sender-dead"] == [2]


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
    """However long an attempt takes, and though another one looks for what was left.

    It renews its leases, also those that were a day old; and the other one has longer ones, which
    no pause of this test ends.
    """
    slow, owner = Slow(), "sender-patient"
    with Receiver(slow) as receiver, post.sending(receiver, owner=owner):
        post.end(receiver.url(), *names(10))
        until(lambda: slow.now == HOST_CONCURRENCY and len(post.held(owner)) == 10)
        held = [each["message_id"] for each in post.held(owner)]
        post.client.xclaim("emo:webhooks", SENDERS, owner, 0, held, idle=2 * DAY_MS, justid=True)
        until(lambda: not post.held(owner, idle_ms=DAY_MS))
        with post.sending(receiver, lease_seconds=DAY_MS / 1000):
            until(lambda: post.client.info("clients")["blocked_clients"] == 2)  # it has looked
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


def test_an_entry_that_is_too_large_holds_nobody_up(post: Post) -> None:
    """It is dropped unread; those beside it are delivered."""
    with Receiver() as receiver:
        post.end(receiver.url(), *names(3, "before"))
        post.client.xadd("emo:webhooks", {"callback": "x" * (MAX_REPLY_BYTES + 1)})
        post.end(receiver.url(), *names(3, "behind"))
        with post.sending(receiver):
            until(lambda: post.delivered)
        beside = [*names(3, "before"), *names(3, "behind")]
        assert set(receiver.ids) == {f"{job}:1" for job in beside}


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
        connect(server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client,
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
