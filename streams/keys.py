"""Names of all keys. The part in braces is the hash tag: all that one hop touches lies in one cluster slot."""

from dataclasses import dataclass
from zlib import crc32

INFERENCE = "infer"
"""The one partition of the inference streams, which serve the runs of all partitions."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names under a prefix, for `partitions` partitions named "0", "1", ..."""

    prefix: str = "victoria"
    partitions: int = 1

    def of_run(self, run_id: str) -> str:
        """The partition a run lives in."""
        return str(crc32(run_id.encode()) % self.partitions)

    def of_session(self, session: str) -> str:
        """The partition a session lives in; its runs live in theirs."""
        return self.of_run(session)

    def of_stream(self, stream: str) -> tuple[str, ...]:
        """The partitions a stream exists in."""
        return (INFERENCE,) if stream.startswith("infer.") else tuple(map(str, range(self.partitions)))

    def everywhere(self) -> tuple[str, ...]:
        """All partitions, that of inference last."""
        return (*map(str, range(self.partitions)), INFERENCE)

    def stream(self, partition: str, name: str) -> str:
        """Stream: entries with the fields `type` and `event`."""
        return f"{{{self.prefix}:{partition}}}:{name}"

    def dead(self, partition: str) -> str:
        """Stream: dead letters of all stages of a partition."""
        return self.stream(partition, "dead")

    def audit(self, partition: str) -> str:
        """Stream: what people did with entries of a partition, streams.letters.Audit in JSON; the newest 100,000."""
        return self.stream(partition, "audit")

    def redelivered(self, partition: str, stage: str) -> str:
        """Hash that expires: events given to a stage once more by hand, their new entries by event id."""
        return self.stream(partition, f"{stage}:redelivered")

    def counted(self, partition: str, stream: str) -> str:
        """Hash that expires: undelivered entries of a stream by group, where they had to be counted."""
        return self.stream(partition, f"{stream}:counted")

    def retaining(self, partition: str) -> str:
        """String that expires: the worker that trimmed a partition's streams last."""
        return self.stream(partition, "retaining")

    def delayed(self, partition: str, stream: str) -> str:
        """Sorted set: entries to be put back on a stream, by due time in ms."""
        return self.stream(partition, f"{stream}:delayed")

    def leases(self, partition: str, stage: str) -> str:
        """Sorted set: live consumers of a stage, by the time in ms at which they count as dead."""
        return self.stream(partition, f"{stage}:leases")

    def run(self, partition: str, run_id: str) -> str:
        """Hash: `submitted`, the first envelope; `session`, whose turn it is or waits for; for each stage with state
        `<stage>` and `<stage>.v`."""
        return self.stream(partition, f"run:{run_id}")

    def journal(self, run_id: str) -> str:
        """Hash: a run's recorded effects, `<event id>/<name>`, and intents, the same with `!` behind."""
        return self.stream(self.of_run(run_id), f"journal:{run_id}")

    def budget(self, run_id: str) -> str:
        """Hash that expires: what a run with limits has spent and reserved; see scripts/reserve.lua."""
        return self.stream(self.of_run(run_id), f"budget:{run_id}")

    def asked(self, effect: str) -> str:
        """Hash that expires: the inference streams a question was put on, so that it is put there once."""
        return self.stream(INFERENCE, f"asked:{effect}")

    def waiting(self, run_id: str) -> str:
        """String that expires: why a run does not go on, streams.asking.Waiting in JSON."""
        return self.stream(self.of_run(run_id), f"waiting:{run_id}")

    def questions(self, partition: str) -> str:
        """Sorted set: ids of questions to people that may still wait for an answer, by when they were asked."""
        return self.stream(partition, "questions")

    def hypotheses(self, partition: str) -> str:
        """Sorted set: ids of hypotheses, by when they were raised."""
        return self.stream(partition, "hypotheses")

    def feed(self, run_id: str) -> str:
        """Stream that expires: pieces of a run's answers as they come, AnswerProgressed."""
        return self.stream(self.of_run(run_id), f"feed:{run_id}")

    def sessions(self, partition: str) -> str:
        """Sorted set: the sessions of a partition, by when a turn came last, in microseconds."""
        return self.stream(partition, "sessions")

    def turns(self, session: str) -> str:
        """Sorted set that expires: a session's line, run ids by when they came, in microseconds."""
        return self.stream(self.of_session(session), f"turns:{session}")

    def said(self, session: str) -> str:
        """List that expires: a session's last exchanges, consumers.sessions.Said in JSON."""
        return self.stream(self.of_session(session), f"said:{session}")

    def session(self, session: str) -> str:
        """Hash that expires: `expert`, who had a session's last turn; `cleared`, the last turn in line by then."""
        return self.stream(self.of_session(session), f"session:{session}")

    def memory(self, session: str) -> str:
        """Hash that expires: `of:<project>`, consumers.session_memory.items.Items in JSON; `due:<run>`, an exchange
        that is still to be considered for these."""
        return self.stream(self.of_session(session), f"memory:{session}")

    def delivered(self, conversation: str) -> str:
        """Set that expires: the runs whose answers a conversation of an OpenAI client has had to their ends."""
        return self.stream(self.of_run(conversation), f"delivered:{conversation}")

    def turned(self, conversation: str) -> str:
        """Hash that expires: the questions that were turns of an OpenAI client's conversation, by how that began;
        gateway.http.openai.conversation.Turn in JSON."""
        return self.stream(self.of_run(conversation), f"turned:{conversation}")

    def offers(self) -> str:
        """Hash that expires: what each inference consumer offers, `<time in ms until it holds>:<JSON>`."""
        return self.stream(INFERENCE, "offers")

    def works(self, agent: str) -> str:
        """Sorted set that expires: what another agent has in hand for us, by the time in ms until which it counts."""
        return self.stream(INFERENCE, f"agent:{agent}")

    def waited(self, partition: str) -> str:
        """Hash: the runs that another agent waits for at our door, consumers.agents.waited.Sign in JSON."""
        return self.stream(partition, "waited")

    def records(self, collection: str, project: str) -> str:
        """Hash: a project's records of one collection by id, in JSON, in a slot of their own."""
        return f"{{{self.prefix}:kept:{collection}:{project}}}:records"

    def times(self, collection: str, project: str) -> str:
        """Sorted set: the ids of these records by their time in ms."""
        return f"{{{self.prefix}:kept:{collection}:{project}}}:times"

    def known(self, project: str, key: str) -> str:
        """String that expires: an answer that may be given again, consumers.answer_cache.Answer in JSON."""
        return f"{{{self.prefix}:known:{project}}}:{key}"

    def all_known(self, project: str) -> str:
        """Sorted set that expires: the keys of a project's answers, by when they expire, in ms."""
        return f"{{{self.prefix}:known:{project}}}:all"

    def tokens(self) -> str:
        """Hash: bearer tokens by name, gateway.http.tokens.Token in JSON: their hashes only."""
        return f"{{{self.prefix}:door}}:tokens"

    def rate(self, of: str) -> str:
        """String that expires: how many requests of a caller came in a window; `of` names both."""
        return f"{{{self.prefix}:door:{of}}}:rate"

    def answers(self, consumer: str) -> str:
        """Pub/sub channel on which a waiting worker hears that a journal has its answer."""
        return f"{self.prefix}:answers:{consumer}"
