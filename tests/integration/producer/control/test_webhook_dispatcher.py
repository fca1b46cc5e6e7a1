"""From ends of jobs to receivers: on real servers, each at least once, whoever is slow."""

from collections import Counter
from contextlib import ExitStack
from typing import Any

from structlog.testing import capture_logs

from producer.control.webhooks.patience import WAITS_SECONDS
from storage.queue.webhooks import ASIDE, RETRYING, SENDERS
from tests.support.polling import until
from tests.support.ports import own_port
from tests.support.webhook_post import HOST_CONCURRENCY, Post, names
from tests.support.webhook_receiver import Receiver, Slow, status


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
    with Receiver(port=own_port()) as gone:
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


def test_no_more_are_sent_at_once_than_is_allowed_in_all(post: Post) -> None:
    """However many receivers are slow: together they get what one setting says."""
    slow = Slow()
    with ExitStack() as stack:
        receivers = [stack.enter_context(Receiver(slow)) for _ in range(5)]
        for number, each in enumerate(receivers):
            post.end(each.url(), *names(6, f"to-{number}"))
        with post.sending(*receivers, concurrency=HOST_CONCURRENCY + 1):
            until(lambda: slow.now == HOST_CONCURRENCY + 1)
            slow.let.set()
            until(lambda: post.delivered)
        assert slow.most == HOST_CONCURRENCY + 1
        assert [len(set(each.ids)) for each in receivers] == [6] * 5


def test_a_receiver_that_does_not_answer_in_time_is_tried_again(post: Post) -> None:
    """It may have had it: so it is told apart by its id."""
    slow = Slow()
    with Receiver(slow) as receiver:
        post.end(receiver.url(), "job")
        with post.sending(receiver, timeout=0.2):
            while not receiver.ids:  # the time may have been over before it was even asked
                post.ring()
                until(lambda: post.waiting()[RETRYING])
        before = len(receiver.ids)
        slow.let.set()
        post.ring()
        with post.sending(receiver):
            until(lambda: post.delivered)
        assert receiver.ids == ["job:1"] * (before + 1)


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
        written = {"job": "foreign", "run": "1", "callback": "file:///etc/passwd"}
        post.client.xadd("emo:webhooks", written)
        post.client.xadd("emo:webhooks", {"x": "y"})
        injected = {"job": "a\r\nX-Evil: 1", "run": "1", "callback": receiver.url()}
        post.client.xadd("emo:webhooks", injected)
        until(lambda: len(post.letters) == 5)
        reasons = {letter.fields.get("job", ""): letter.reason for letter in post.letters.listed()}
        assert reasons["unwanted"] == "HTTP 410"
        assert "EMO_WEBHOOK_HOSTS" in reasons["forbidden"]
        assert reasons["foreign"].startswith("refused: field 'callback'")
        assert reasons[""] == reasons[injected["job"]] == "refused: no script of ours wrote it"
        assert post.alarms.set == {}
        assert other.requests == []
