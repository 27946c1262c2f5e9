"""What can be set. The `Settings` record is the only list of keys; deploy/loading.py reads their values.

`describe` turns it into rows for `victoria config` and the README.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import platformdirs
from msgspec import Meta

from consumers.tools.programs import BOUNDED
from consumers.tools.workspace import SECRETS
from deploy.fields import More, fields_of, shown
from deploy.folders import default_state_dir, project_root
from schemas.plan import MOST


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. Times are in seconds. Printed with passwords masked."""

    redis_url: Annotated[
        str,
        Meta(description="The Redis or Valkey server; empty starts the embedded one."),
        More(expects="a redis://, rediss:// or unix:// URL, or nothing", personal=True),
    ] = ""
    prefix: Annotated[
        str,
        Meta(description="What all keys on the server start with.", pattern=r"^[^{}\s:]+\Z"),
        More(expects="text without braces, colons and spaces"),
    ] = "victoria"
    partitions: Annotated[int, Meta(description="Over how many sets of streams the runs are spread.", ge=1, le=256)] = 1
    state_dir: Annotated[
        Path,
        Meta(description="Where the embedded server keeps its data; there is one server per folder."),
        More(default="the user's state folder, one per project folder"),
    ] = msgspec.field(default_factory=lambda: default_state_dir(project_root(Path.cwd())))
    cache_dir: Annotated[
        Path,
        Meta(description="Where what can be fetched again is kept, such as the embedded model."),
        More(default="the user's cache folder"),
    ] = msgspec.field(default_factory=lambda: platformdirs.user_cache_path("victoria"))
    experts_dir: Annotated[
        Path,
        Meta(description="A folder of experts' YAML files that are added to Victoria's own, or replace them."),
        More(default="experts in the user's configuration folder", personal=True),
    ] = msgspec.field(default_factory=lambda: platformdirs.user_config_path("victoria") / "experts")
    model: Annotated[
        str,
        Meta(
            description="Which model answers: auto, none, a model's name, or local, mlx or ollama, alone or with a "
            "model, as in ollama:llama3.3:70b, local:/path/to/model.gguf.",
            min_length=1,
        ),
        More(expects="auto, none, local, mlx, ollama, or a model's name"),
    ] = "auto"
    model_priority: Annotated[
        str, Meta(description="Models that are asked before all others, the best first, separated by commas.")
    ] = (
        "command-r-plus:104b, deepseek-r1-distill-llama:70b, llama3.3:70b, qwen2.5-coder:32b, phi3.5:3.8b, "
        "phi3:mini-4k, qwen2.5:3b, tinyllama:1.1b-chat"
    )
    model_timeout: Annotated[
        float, Meta(description="Seconds in which a question must be answered, by whatever model.", gt=0, le=86_400)
    ] = 300
    model_wait: Annotated[
        float,
        Meta(description="Seconds for which a question waits for a model to be there.", ge=0, le=31_536_000),
    ] = 3600
    ollama_hosts: Annotated[
        str,
        Meta(description="Ollama servers, separated by commas: gpu-1, gpu-2:11434, https://user:password@gpu-3."),
        More(names=("OLLAMA_HOSTS",), default="the one on this machine, if there is one", personal=True),
    ] = ""
    ollama_slots: Annotated[
        int, Meta(description="How many questions an Ollama server gets at once from one consumer.", ge=1, le=256)
    ] = 1
    ollama_context: Annotated[
        int,
        Meta(description="Tokens of context of Ollama's models; less where a model knows less.", ge=512, le=1 << 20),
    ] = 8192
    ollama_connect: Annotated[float, Meta(description="Seconds to wait for a connection to Ollama.", gt=0, le=600)] = 5
    ollama_plain: Annotated[
        float, Meta(description="Seconds to wait for what Ollama knows at once, as its list of models.", gt=0, le=600)
    ] = 15
    ollama_load: Annotated[float, Meta(description="Seconds to wait while Ollama loads a model.", gt=0, le=86_400)] = (
        300
    )
    ollama_first: Annotated[
        float, Meta(description="Seconds to wait for the first piece of Ollama's answer.", gt=0, le=86_400)
    ] = 120
    ollama_idle: Annotated[
        float, Meta(description="Seconds to wait for each further piece of it.", gt=0, le=86_400)
    ] = 30
    mlx_model: Annotated[
        str,
        Meta(description="A folder in MLX's format, or a GGUF file, for MLX; empty takes the bundled model."),
        More(expects="a folder's or file's path, or nothing"),
    ] = ""
    mlx_slots: Annotated[int, Meta(description="How many questions MLX answers at once.", ge=1, le=64)] = 4
    mlx_context: Annotated[int, Meta(description="Tokens of context of each of MLX's slots.", ge=512, le=1_048_576)] = (
        4096
    )
    local_model: Annotated[
        str,
        Meta(description="A GGUF file to run in-process; empty takes the bundled one."),
        More(expects="a file's path, or nothing"),
    ] = ""
    local_slots: Annotated[
        int, Meta(description="How many questions the local model answers at once.", ge=1, le=64)
    ] = 4
    local_context: Annotated[
        int, Meta(description="Tokens of context of each of the local model's slots.", ge=512, le=1_048_576)
    ] = 4096
    main_project: Annotated[
        str,
        Meta(description="The project meant when none is named: name, path or name=path."),
        More(names=("MAIN_PROJECT",), default="the root folder, under its own name", personal=True),
    ] = ""
    allowed_projects: Annotated[
        str,
        Meta(description="Further projects, separated by commas, each as in main_project."),
        More(names=("ALLOWED_PROJECTS",), personal=True),
    ] = ""
    lease: Annotated[
        float, Meta(description="Seconds after which a silent worker's entries go to others.", gt=0.2, le=3600)
    ] = 10
    grace: Annotated[
        float, Meta(description="Seconds a stopping worker has to finish what it holds.", ge=0, le=3600)
    ] = 10
    keep: Annotated[
        float,
        Meta(
            description="Seconds that handled events stay on their streams, and a run's keys after its end.",
            gt=0,
            le=3_153_600_000,
        ),
    ] = 604_800
    keep_entries: Annotated[
        int, Meta(description="How many entries a stream keeps of those that are handled.", ge=1, le=1_000_000_000)
    ] = 1_000_000
    keep_dead: Annotated[
        int, Meta(description="How many dead letters are kept, however old.", ge=1, le=1_000_000_000)
    ] = 100_000
    keep_sessions: Annotated[
        float,
        Meta(description="Seconds that a session is kept without a new turn.", ge=1, le=3_153_600_000),
    ] = 2_592_000
    memory_bytes: Annotated[
        int,
        Meta(description="Bytes of what a session keeps of a project beside what was said.", ge=200, le=64_000),
    ] = 4_000
    answer_cache: Annotated[
        float,
        Meta(
            description="Seconds for which an answer that a model found is given again to the same goal, while nothing "
            "it rests on has changed; 0 is not at all.",
            ge=0,
            le=31_536_000,
        ),
    ] = 600
    backlog: Annotated[
        int,
        Meta(
            description="How many goals may wait at intake, in each partition, before more are refused; 0 is no limit.",
            ge=0,
            le=1_000_000_000,
        ),
    ] = 100_000
    run_tokens: Annotated[
        int, Meta(description="How many tokens of models a run may use; 0 is no limit.", ge=0, le=MOST)
    ] = 0
    run_calls: Annotated[int, Meta(description="How often a run may call models; 0 is no limit.", ge=0, le=MOST)] = 0
    tasks_at_once: Annotated[
        int, Meta(description="How many tasks may be under way at once, of all workers together.", ge=1, le=1000)
    ] = 32
    task_seconds: Annotated[
        float, Meta(description="Seconds in which a task's run must end; 0 is any.", ge=0, le=31_536_000)
    ] = 3600
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least severe log events shown.")
    ] = "warning"
    log_goals: Annotated[
        bool,
        Meta(
            description="Whether log events may have the text of goals, and the messages of exceptions, which may "
            "quote one."
        ),
        More(personal=True),
    ] = False
    time_zone: Annotated[
        str,
        Meta(
            description="Where the days of your calendar begin, such as Europe/Berlin. Name it where workers run on "
            "several machines."
        ),
        More(expects="a time zone's name, as Europe/Berlin, or nothing", default="the system's"),
    ] = ""
    max_iterations: Annotated[
        int, Meta(description="How many rounds a strategy may take over one goal.", ge=1, le=1000)
    ] = 10
    question_timeout: Annotated[
        float, Meta(description="Seconds for which a question to a person is open.", gt=0, le=31_536_000)
    ] = 86_400
    hypothesis_timeout: Annotated[
        float,
        Meta(description="Seconds in which a hypothesis is judged, by what is found by then.", gt=0, le=31_536_000),
    ] = 3_600
    tools_dir: Annotated[
        Path,
        Meta(description="A folder of your own tools: each Python file in it is run as part of Victoria."),
        More(default="tools in the user's configuration folder", personal=True),
    ] = msgspec.field(default_factory=lambda: platformdirs.user_config_path("victoria") / "tools")
    strategies_dir: Annotated[
        Path,
        Meta(description="A folder of your own strategies: each Python file in it is run as part of Victoria."),
        More(default="strategies in the user's configuration folder", personal=True),
    ] = msgspec.field(default_factory=lambda: platformdirs.user_config_path("victoria") / "strategies")
    tool_timeout: Annotated[
        float, Meta(description="Seconds for a program, a far command or a search of an agent.", gt=0, le=3600)
    ] = 60
    approved_tools: Annotated[
        str,
        Meta(description="Tools that act without anybody being asked, separated by commas."),
        More(personal=True),
    ] = ""
    secret_files: Annotated[
        str,
        Meta(
            description="Names of files and folders in projects that tools never read, separated by commas; * stands "
            "for anything. Given anew, it replaces these."
        ),
        More(default=", ".join(SECRETS), personal=True),
    ] = ", ".join(SECRETS)
    programs: Annotated[
        str,
        Meta(
            description="Programs that agents may run, separated by commas. Those of the default have no options that "
            "write; any other may be called with all it has, in the sandbox only."
        ),
        More(personal=True),
    ] = ", ".join(BOUNDED)
    writable_projects: Annotated[
        str,
        Meta(description="Projects, separated by commas, whose folders programs of agents may write to."),
        More(personal=True),
    ] = ""
    search_url: Annotated[
        str,
        Meta(description="A SearXNG server that answers in JSON, for web_search; empty is no search."),
        More(expects="an http:// or https:// URL, or nothing", personal=True),
    ] = ""
    ssh_hosts: Annotated[
        str,
        Meta(description="Machines that agents may run commands on, separated by commas: gpu-1, ops@db-1:2222."),
        More(personal=True),
    ] = ""
    ssh_key: Annotated[
        str,
        Meta(description="The private key for that, a file; empty takes the keys of your ssh-agent."),
        More(expects="a file's path, or nothing", personal=True),
    ] = ""
    ssh_known_hosts: Annotated[
        Path,
        Meta(description="The keys of those machines, as ssh keeps them."),
        More(default="~/.ssh/known_hosts", personal=True),
    ] = msgspec.field(default_factory=lambda: Path("~/.ssh/known_hosts").expanduser())
    agent: Annotated[
        str,
        Meta(description="The expert as which this installation answers over HTTP.", pattern="^[a-z][a-z0-9_]{0,39}$"),
        More(expects="an expert's name"),
    ] = "victoria"
    http_host: Annotated[
        str,
        Meta(description="The HTTP door's address; one that other machines reach needs a token to exist."),
    ] = "127.0.0.1"
    http_port: Annotated[int, Meta(description="Its port; 0 takes any that is free.", ge=0, le=65_535)] = 8010
    http_auth: Annotated[
        Literal["auto", "always"],
        Meta(description="Whether each request needs a token: always, or on loopback not until there is one."),
        More(personal=True),
    ] = "auto"
    http_hosts: Annotated[
        str,
        Meta(
            description="Names under which the door may be reached, separated by commas. On loopback none is beside "
            "localhost, elsewhere empty is any."
        ),
        More(personal=True),
    ] = ""
    http_origins: Annotated[
        str,
        Meta(description="Origins whose web pages may use the door, separated by commas: https://ai.example.org."),
        More(personal=True),
    ] = ""
    http_rate: Annotated[
        str,
        Meta(
            description="How often a caller may send something, over all doors together: 600/minute, or none. auto is "
            "6000/minute, on loopback none.",
            pattern=r"^(auto|none|[1-9]\d{0,8}/(second|minute|hour|day))\Z",
        ),
        More(expects="auto, none, or a number per second, minute, hour or day, as 600/minute"),
    ] = "auto"
    http_at_once: Annotated[
        int,
        Meta(description="How many requests of one caller a door has under way, waiting ones too.", ge=1, le=100_000),
    ] = 2_000
    metrics_port: Annotated[
        int,
        Meta(
            description="The port at which a worker has figures for Prometheus, with --processes the first of as many "
            "as there are processes; 0 is none. The HTTP door has them on its own.",
            ge=0,
            le=65_535,
        ),
        More(personal=True),
    ] = 0
    metrics_host: Annotated[
        str,
        Meta(description="Its address; who reaches it needs no token."),
        More(personal=True),
    ] = "127.0.0.1"
    otel: Annotated[
        bool,
        Meta(description="Whether traces are exported over OTLP, by the extra otel; the variables OTEL_* say how."),
        More(personal=True),
    ] = False
    otel_content: Annotated[
        bool,
        Meta(description="Whether traces have goals, prompts, answers, and what tools are given and say."),
        More(personal=True),
    ] = False
    token: Annotated[
        str,
        Meta(description="The bearer token with which `victoria chat --url` comes to a door."),
        More(expects="a token of `victoria token create`, or nothing", personal=True),
    ] = ""
    victoria_url: Annotated[
        str,
        Meta(description="The HTTP door of the agent Victoria, such as http://ops:8010; empty where there is none."),
        More(names=("VICTORIA_URL",), expects="an http:// or https:// URL, or nothing", personal=True),
    ] = ""
    veronica_url: Annotated[
        str,
        Meta(description="The HTTP door of the agent Veronica, such as http://ops:8011; empty where there is none."),
        More(names=("VERONICA_URL",), expects="an http:// or https:// URL, or nothing", personal=True),
    ] = ""
    agents: Annotated[
        str,
        Meta(description="Further agents that steps are given to, by their experts' names: qa=http://lab:8010, ..."),
        More(personal=True),
    ] = ""
    delegate_timeout: Annotated[float, Meta(description="Seconds another agent has for a step.", gt=0, le=86_400)] = 300
    delegate_at_once: Annotated[
        int, Meta(description="With how many steps at once another agent counts as fully busy.", ge=1, le=10_000)
    ] = 4
    database_url: Annotated[
        str,
        Meta(
            description="The PostgreSQL server, which then also keeps notes and calendars; empty starts the embedded "
            "one where one is needed."
        ),
        More(
            names=("VICTORIA_POSTGRES_URL", "DATABASE_URL"),
            expects="a postgresql:// URL, or nothing",
            personal=True,
        ),
    ] = ""
    history: Annotated[
        bool,
        Meta(description="Whether `up` and `serve` keep history: they write to the database what all streams say."),
    ] = True
    keep_archive: Annotated[
        float,
        Meta(description="Seconds that history stays in the database, to a week.", ge=86_400, le=3_153_600_000),
    ] = 31_536_000
    embedder: Annotated[
        str,
        Meta(
            description="Which model finds memories by their meaning: auto (one on Ollama, else the bundled one), "
            "bundled, none, or a model on Ollama.",
            min_length=1,
        ),
        More(expects="auto, bundled, none, or a model's name"),
    ] = "auto"
    use_victoria_enhanced: Annotated[
        bool,
        Meta(description="Whether there are experts, strategies and other agents, beside the one who answers."),
        More(names=("USE_VICTORIA_ENHANCED",)),
    ] = True
    enable_event_monitoring: Annotated[
        bool,
        Meta(
            description="The level that acts by itself, for later versions: `/status` repeats it, nothing uses it yet."
        ),
        More(names=("ENABLE_EVENT_MONITORING",)),
    ] = False

    def shown(self) -> dict[str, str]:
        """Each key's value as text, passwords masked."""
        return {key: shown(key, getattr(self, key)) for key in self.__struct_fields__}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{key}={value!r}' for key, value in self.shown().items())})"


class Setting(msgspec.Struct, frozen=True):
    """One row for people: a key, its environment names (the first wins), and texts."""

    key: str
    environment: tuple[str, ...]
    type: str
    default: str
    description: str


def describe() -> list[Setting]:
    """All settings in the order of `Settings`."""
    return [
        Setting(key, field.names, field.expects, field.default, field.description)
        for key, field in fields_of(Settings).items()
    ]
