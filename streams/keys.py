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

    def of_stream(self, stream: str) -> tuple[str, ...]:
        """The partitions a stream exists in."""
        return (INFERENCE,) if stream.startswith("infer.") else tuple(map(str, range(self.partitions)))

    def stream(self, partition: str, name: str) -> str:
        """Stream: entries with the fields `type` and `event`."""
        return f"{{{self.prefix}:{partition}}}:{name}"

    def dead(self, partition: str) -> str:
        """Stream: dead letters of all stages of a partition."""
        return self.stream(partition, "dead")

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
        """Hash: `submitted`, the first envelope; for each stage with state `<stage>` and `<stage>.v`."""
        return self.stream(partition, f"run:{run_id}")

    def journal(self, run_id: str) -> str:
        """Hash: a run's recorded effects, `<event id>/<name>`, and intents, the same with `!` behind."""
        return self.stream(self.of_run(run_id), f"journal:{run_id}")

    def asked(self, effect: str) -> str:
        """Hash that expires: the inference streams a question was put on, so that it is put there once."""
        return self.stream(INFERENCE, f"asked:{effect}")

    def waiting(self, run_id: str) -> str:
        """String that expires: why a run does not go on, streams.asking.Waiting in JSON."""
        return self.stream(self.of_run(run_id), f"waiting:{run_id}")

    def questions(self, partition: str) -> str:
        """Sorted set: ids of questions to people that may still wait for an answer, by when they were asked."""
        return self.stream(partition, "questions")

    def feed(self, run_id: str) -> str:
        """Stream that expires: pieces of a run's answers as they come, AnswerProgressed."""
        return self.stream(self.of_run(run_id), f"feed:{run_id}")

    def offers(self) -> str:
        """Hash that expires: what each inference consumer offers, `<time in ms until it holds>:<JSON>`."""
        return self.stream(INFERENCE, "offers")

    def answers(self, consumer: str) -> str:
        """Pub/sub channel on which a waiting worker hears that a journal has its answer."""
        return f"{self.prefix}:answers:{consumer}"
